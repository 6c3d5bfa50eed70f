"""The command ``up`` that the server adds to ``contextune``. It takes no options: configuration is by environment."""

from __future__ import annotations

import pydantic
import typer

from app.config import Settings
from app.standalone import up as whole_service
from app.standalone.supervisor import StartFailedError

cli = typer.Typer(name="up", add_completion=False, pretty_exceptions_enable=False)


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


if __name__ == "__main__":
    cli()
