"""The client of a command: made of ``--url``, the environment and the settings, in this order."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Any

import typer

from contextune.cli import settings
from contextune.client import Contextune
from contextune.options import DEFAULT_URL


@dataclass(frozen=True)
class Target:
    """The service that a command is for, the key that it shows, and where each of them was said; None is nowhere."""

    url: str
    url_from: str | None
    key: str | None = field(repr=False)
    key_from: str | None

    @classmethod
    def of(cls, context: typer.Context) -> Target:
        """That of a command."""
        remembered = settings.read()
        url, url_from = _first(
            (context.find_root().obj, "--url"),
            (os.environ.get("CONTEXTUNE_URL"), "CONTEXTUNE_URL"),
            (remembered.get("url"), "contextune config"),
        )
        key, key_from = _first(
            (os.environ.get("CONTEXTUNE_API_KEY"), "CONTEXTUNE_API_KEY"), (remembered.get("key"), "contextune config")
        )
        return cls(url or DEFAULT_URL, url_from, key, key_from)

    def at(self, url: str, url_from: str) -> Target:
        """The same for a service elsewhere."""
        return replace(self, url=url, url_from=url_from)

    def connect(self, **options: Any) -> Contextune:
        """A client of it."""
        return Contextune(self.url, self.key, **options)


def connect(context: typer.Context) -> Contextune:
    """A client for this command."""
    return Target.of(context).connect()


def _first(*said: tuple[str | None, str]) -> tuple[str | None, str | None]:
    return next(((value, where) for value, where in said if value), (None, None))
