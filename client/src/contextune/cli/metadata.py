"""Metadata on the command line: ``--metadata KEY=VALUE``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeAlias

import typer

OPTION = "--metadata"

Metadata: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(OPTION, metavar="KEY=VALUE", help="Metadata to keep with the context; may be given again."),
]
WantedMetadata: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(OPTION, metavar="KEY=VALUE", help="Only contexts with this metadata; may be given again."),
]


def metadata_of(written: Sequence[str] | None) -> dict[str, str] | None:
    """The metadata that was given; None where none was."""
    found: dict[str, str] = {}
    for each in written or ():
        key, equals, value = each.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"{each!r} is no KEY=VALUE", param_hint=OPTION)
        if key in found:
            raise typer.BadParameter(f"the key {key!r} is given twice", param_hint=OPTION)
        found[key] = value
    return found or None
