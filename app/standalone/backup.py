"""The commands ``backup`` and ``restore``: the whole service in one file, as the way to move it to another machine."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import pydantic
import typer
from contextune.cli.failures import FAILED
from contextune.cli.output import Json, Output
from contextune.errors import ContextuneError

from app.admin.backup import Backup, BackupFailed, read_backup, write_backup
from app.config import Settings, wrong_settings
from app.records.backups import Backups, BackupUnderWay, StoreNotEmpty
from app.records.connection import StoreUnavailable
from app.records.files import ArtifactsUnavailable
from app.standalone.children import ChildError
from app.standalone.embedded import EmbeddedServer
from app.standalone.up import CannotStartError, claimed

backup_cli = typer.Typer(name="backup", add_completion=False, pretty_exceptions_enable=False)
restore_cli = typer.Typer(name="restore", add_completion=False, pretty_exceptions_enable=False)

#: A store reads its data before it answers.
_START_SECONDS: Final = 120.0

File = Annotated[Path, typer.Argument(help="The backup, a tar file.")]


@backup_cli.command()
def backup(file: File, as_json: Json = False) -> None:
    """Write every record and every file of this installation to a new FILE; the service may run meanwhile.

    Where files are missing or damaged, the backup holds all others, and the exit status is 1.
    """
    with _told():
        settings = Settings()
        with _store(settings) as url:
            found = write_backup(Backups.at(url), settings.artifacts_url, file, _note)
    Output(as_json).result(asdict(found), lambda console: console.print(f"{file}: {_what(found)}"))
    if found.damaged:
        typer.echo(f"Error: missing or damaged, and left out of {file}: {', '.join(found.damaged)}", err=True)
        raise typer.Exit(FAILED)


@restore_cli.command()
def restore(file: File, as_json: Json = False) -> None:
    """Restore a backup into an empty installation that does not run; jobs that had not ended are queued anew."""
    with _told():
        settings = Settings()
        alone = nullcontext() if settings.store_url else claimed(settings.data_dir, "nowhere: a backup is restored")
        with alone, _store(settings) as url:
            found = read_backup(Backups.at(url, to_restore=True), settings.artifacts_url, file, _note)
    Output(as_json).result(asdict(found), lambda console: console.print(f"restored: {_what(found)}"))


def _what(found: Backup) -> str:
    return f"{found.rows:,} records and {found.artifacts:,} files of {found.bytes / 1e6:,.1f} MB"


@contextmanager
def _store(settings: Settings) -> Iterator[str]:
    """The URL of the store; the embedded one is started where it does not run, and stopped again."""
    if settings.store_url:
        yield settings.store_url
        return
    server = EmbeddedServer.store(settings.data_dir)
    if server.answers():
        yield server.url
        return
    server.start()
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not server.answers():
            if not server.running() or time.monotonic() > deadline:
                raise ChildError(f"the embedded store does not start (log: {server.log})")
            time.sleep(0.05)
        yield server.url
    finally:
        server.stop()


@contextmanager
def _told() -> Iterator[None]:
    """Says in one line what went wrong."""
    try:
        yield
    except pydantic.ValidationError as error:
        raise ContextuneError("; ".join(wrong_settings(error))) from None
    except BackupUnderWay:
        raise ContextuneError("another backup is being made") from None
    except StoreNotEmpty:
        text = "the store is not empty: a backup is restored into a new installation, before its first start"
        raise ContextuneError(text) from None
    except StoreUnavailable as error:
        raise ContextuneError(f"the store cannot be used: {error}") from error
    except ArtifactsUnavailable as error:
        raise ContextuneError(f"the artifacts cannot be used: {error}") from error
    except (BackupFailed, ChildError, CannotStartError, OSError) as error:
        raise ContextuneError(str(error)) from error


def _note(text: str) -> None:
    if sys.stderr.isatty():
        typer.echo(text, err=True)
