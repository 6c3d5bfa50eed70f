"""The command's application: its verbs, those that other distributions add, and what becomes of errors."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from contextune.cli import contributed, failures
from contextune.cli.access import audit, keys, models, usage
from contextune.cli.batches import batch
from contextune.cli.classify import classify
from contextune.cli.configuration import config
from contextune.cli.contexts import alias, contexts, export, import_
from contextune.cli.doctor import doctor
from contextune.cli.evaluate import evaluate
from contextune.cli.jobs import jobs
from contextune.cli.output import Json, Output
from contextune.cli.tenants import tenants
from contextune.cli.tune import tune
from contextune.cli.webhooks import webhooks
from contextune.errors import ContextuneError
from contextune.version import VERSION


def run(arguments: list[str] | None = None) -> None:
    """Run the command and exit. Errors become one line, or the envelope, and their exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in given
    try:
        sys.exit(application()(given, prog_name="contextune", standalone_mode=not as_json))
    except failures.WRONG_ARGUMENTS as error:
        sys.exit(failures.tell_wrong_arguments(error))
    except ContextuneError as error:
        sys.exit(failures.tell(error, as_json))
    except OSError as error:
        sys.exit(failures.tell(failures.of_file(error), as_json))


def application() -> typer.Typer:
    """A new application with every command."""
    app = typer.Typer(
        name="contextune", no_args_is_help=True, pretty_exceptions_enable=False, epilog=failures.EXIT_STATUSES
    )
    app.callback()(_contextune)
    app.command()(tune)
    app.command()(classify)
    app.command(name="eval")(evaluate)
    for name, group in (("contexts", contexts), ("jobs", jobs), ("batch", batch), ("alias", alias)):
        app.add_typer(group, name=name)
    app.command()(export)
    app.command(name="import")(import_)
    app.command()(models)
    app.command()(usage)
    app.command()(audit)
    for name, group in (("keys", keys), ("tenants", tenants), ("webhooks", webhooks), ("config", config)):
        app.add_typer(group, name=name)
    app.command()(version)
    contributed.add_commands(app, {"keys": keys}, {"doctor": doctor})
    return app


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(VERSION)
        raise typer.Exit


def _contextune(
    context: typer.Context,
    url: Annotated[
        str | None, typer.Option(help="Where the service is; else CONTEXTUNE_URL, else the settings.")
    ] = None,
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Turn a handful of labelled examples into a text classifier.

    Results go to the standard output, all else to the standard error.
    """
    context.obj = url


def version(as_json: Json = False) -> None:
    """Print the version."""
    Output(as_json).result({"version": VERSION}, lambda console: console.print(VERSION))
