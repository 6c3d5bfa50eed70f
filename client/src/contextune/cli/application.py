"""The command's application: its verbs and those that other distributions add."""

from __future__ import annotations

import typer

from contextune import __version__
from contextune.cli import contributed


def application() -> typer.Typer:
    """A new application with every command."""
    app = typer.Typer(name="contextune", no_args_is_help=True, pretty_exceptions_enable=False)
    app.callback()(_contextune)
    app.command()(version)
    contributed.add_commands(app, {})
    return app


def _contextune() -> None:
    """Turn a handful of labelled examples into a text classifier."""


def version() -> None:
    """Print the version."""
    typer.echo(__version__)
