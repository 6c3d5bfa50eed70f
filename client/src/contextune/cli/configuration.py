"""``contextune config``: the address and the key that the command remembers."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Literal

import typer

from contextune.cli import settings
from contextune.cli.output import Json, Output, table
from contextune.options import DEFAULT_URL

config = typer.Typer(help="The service's address and the key that this command remembers.", no_args_is_help=True)

Name = Annotated[Literal["url", "key"], typer.Argument(help="Which setting.")]


@config.command()
def show(as_json: Json = False) -> None:
    """Show what is remembered; a key is told by its beginning only."""
    found = settings.read()
    if "key" in found:
        found["key"] = found["key"][:8] + "…"
    data = {"path": str(settings.path()), "url": found.get("url", DEFAULT_URL), "key": found.get("key")}
    output = Output(as_json)
    output.result(data, lambda console: console.print(table(["setting", "value"], data.items())))
    for variable in ("CONTEXTUNE_URL", "CONTEXTUNE_API_KEY"):
        if os.environ.get(variable):
            output.note(f"{variable} is set in the environment and goes before it.")


@config.command(name="set")
def set_(
    name: Name,
    value: Annotated[str | None, typer.Argument(help="The value; a key is better asked for.")] = None,
    as_json: Json = False,
) -> None:
    """Remember a setting. A key that is not given is asked for, so that it stays out of the shell's history."""
    if value is None:
        value = typer.prompt(name, hide_input=name == "key", err=True) if sys.stdin.isatty() else sys.stdin.readline()
    if not value.strip():
        raise typer.BadParameter("it is empty", param_hint=name.upper())
    settings.write({**settings.read(), name: value.strip()})
    Output(as_json).result({"setting": name, "path": str(settings.path())}, lambda _: None)


@config.command()
def unset(name: Name, as_json: Json = False) -> None:
    """Forget a setting."""
    settings.write({key: value for key, value in settings.read().items() if key != name})
    Output(as_json).result({"setting": name, "path": str(settings.path())}, lambda _: None)
