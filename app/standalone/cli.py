"""The command ``contextune``. Its verbs take no options: configuration is by environment."""

from __future__ import annotations

import importlib.metadata

import pydantic
import typer

from app.config import Settings
from app.standalone import up as whole_service
from app.standalone.supervisor import StartFailedError

cli = typer.Typer(name="contextune", add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@cli.callback()
def contextune() -> None:
    """Turns a handful of labelled examples into a classifier, over HTTP."""


@cli.command()
def up() -> None:
    """Start the whole service on this machine; Ctrl-C stops it."""
    try:
        whole_service.run(Settings())
    except pydantic.ValidationError as error:
        for problem in error.errors():
            typer.echo(f"CONTEXTUNE_{str(problem['loc'][0]).upper()}: {problem['msg']}", err=True)
        raise typer.Exit(1) from error
    except (whole_service.CannotStartError, StartFailedError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error


@cli.command()
def version() -> None:
    """Print the version."""
    typer.echo(importlib.metadata.version("contextune"))


def main() -> None:
    """Entry point of the script ``contextune``."""
    cli()


if __name__ == "__main__":
    main()
