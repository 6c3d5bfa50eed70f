"""The command ``doctor``: what is wrong with this installation, and how to mend it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Final

import pydantic
import typer

from app.admin.doctor import Finding, State, examine
from app.config import Settings
from app.standalone.embedded import EmbeddedServer

cli = typer.Typer(name="doctor", add_completion=False, pretty_exceptions_enable=False)

_MARKS: Final[dict[State, str]] = {"ok": "ok     ", "warning": "warning", "wrong": "WRONG  "}


@cli.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON envelope: ok, and data or error.")] = False,
) -> None:
    """Say what is wrong with this installation and how to mend it; the service may run or not."""
    try:
        settings = Settings()
    except pydantic.ValidationError as error:
        findings = [_setting(problem["loc"], problem["msg"]) for problem in error.errors()]
    else:
        store = settings.store_url or EmbeddedServer.store(settings.data_dir).url
        bus = settings.bus_url or EmbeddedServer.bus(settings.data_dir).url
        findings = examine(settings, store, bus)
    healthy = all(finding.state != "wrong" for finding in findings)
    if as_json:
        typer.echo(json.dumps({"ok": healthy, "data": {"findings": [asdict(finding) for finding in findings]}}))
    else:
        for finding in findings:
            typer.echo(f"{_MARKS[finding.state]}  {finding.check}: {finding.found}")
            if finding.mend:
                typer.echo(f"         {finding.mend}")
    raise typer.Exit(0 if healthy else 1)


def _setting(place: tuple[int | str, ...], message: str) -> Finding:
    name = f"CONTEXTUNE_{str(place[0]).upper()}" if place else "the settings"
    return Finding("settings", "wrong", f"{name}: {message}", "see docs/configuration.md")
