"""The command ``up`` that the server adds to ``contextune``. Configuration is by environment."""

from __future__ import annotations

import webbrowser
from typing import Annotated

import pydantic
import typer

from app.config import Settings, wrong_settings
from app.standalone import up as whole_service
from app.standalone.supervisor import StartFailedError

cli = typer.Typer(name="up", add_completion=False, pretty_exceptions_enable=False)


@cli.command()
def up(
    browse: Annotated[
        bool, typer.Option("--open", help="Open the service in a browser as soon as it is ready.")
    ] = False,
) -> None:
    """Start the whole service on this machine; Ctrl-C stops it. Settings come from the environment."""
    try:
        whole_service.run(Settings(), webbrowser.open if browse else None)
    except pydantic.ValidationError as error:
        for line in wrong_settings(error):
            typer.echo(line, err=True)
        raise typer.Exit(1) from error
    except (whole_service.CannotStartError, StartFailedError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error


if __name__ == "__main__":
    cli()
