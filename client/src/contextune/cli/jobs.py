"""``contextune jobs`` and ``contextune batch``."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TextIO

import typer
from rich.console import Console

from contextune.cli.batch_file import BatchFile
from contextune.cli.output import Json, Output, clipped, plain
from contextune.cli.pages import fields_table, job_fields, jobs_table, when
from contextune.cli.progress import follow
from contextune.cli.reading import Encoding, Exact, Format, LabelColumn, TextColumn
from contextune.cli.report_page import print_report
from contextune.cli.session import connect
from contextune.client import Contextune
from contextune.errors import PermissionDeniedError
from contextune.models.batches import Batch, BatchResult
from contextune.models.jobs import Event
from contextune.sources import Columns

jobs = typer.Typer(help="Look at jobs, wait for them, cancel them.", no_args_is_help=True)
batch = typer.Typer(help="Classify many texts of a file in one job.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="The job's id.")]
Limit = Annotated[int, typer.Option(min=1, help="How many at most.")]
Target = Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")]


@jobs.command(name="list")
def list_jobs(
    context: typer.Context,
    status: Annotated[str | None, typer.Option(help="Only queued, running, succeeded, failed or cancelled.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only jobs of this kind: tuning or batch.")] = None,
    of: Annotated[str | None, typer.Option("--context", help="Only jobs of this context, by its id.")] = None,
    limit: Limit = 20,
    as_json: Json = False,
) -> None:
    """List jobs, newest first."""
    with connect(context) as client:
        found = list(client.jobs.list(status=status, kind=kind, context=of, limit=limit))
    Output(as_json).result(found, lambda console: console.print(jobs_table(found)))


@jobs.command()
def show(context: typer.Context, job: Id, as_json: Json = False) -> None:
    """Show a job."""
    with connect(context) as client:
        found = client.jobs.get(job)
    Output(as_json).result(found, lambda console: console.print(fields_table(job_fields(found))))


@jobs.command()
def wait(context: typer.Context, job: Id, as_json: Json = False) -> None:
    """Wait until a job has ended; exit with status 7 unless it has succeeded."""
    output = Output(as_json)
    with connect(context) as client:
        ended = follow(client, client.jobs.get(job), output)
    output.result(ended, lambda console: console.print(fields_table(job_fields(ended))))


@jobs.command()
def events(context: typer.Context, job: Id, as_json: Json = False) -> None:
    """Print the events of a job as they happen, until it has ended; into a pipe as a JSON object a line."""
    with connect(context) as client:
        found = client.jobs.events(job)
        if as_json:
            Output(as_json).result(list(found), lambda _: None)
        for event in found:
            _print_event(event)


def _print_event(event: Event) -> None:
    if sys.stdout.isatty():
        numbers = ", ".join(f"{name} {value}" for name, value in event.data.items())
        sys.stdout.write(f"{when(event.created_at)} {event.type:8} {clipped(event.message or numbers, 100)}\n")
    else:
        sys.stdout.write(event.model_dump_json() + "\n")
    sys.stdout.flush()


@jobs.command()
def cancel(context: typer.Context, job: Id, as_json: Json = False) -> None:
    """Cancel a job: at once while it is queued, within a step while it runs."""
    with connect(context) as client:
        found = client.jobs.cancel(job)
    Output(as_json).result(found, lambda console: console.print(fields_table(job_fields(found))))


@jobs.command(name="delete")
def delete_job(context: typer.Context, job: Id, as_json: Json = False) -> None:
    """Delete a job that has ended, and its files."""
    with connect(context) as client:
        client.jobs.delete(job)
    Output(as_json).result({"id": job, "deleted": True}, lambda _: None)


@batch.command()
def create(
    context: typer.Context,
    ref: Annotated[str, typer.Argument(help="The context: its name, name@version, name@alias or id.")],
    file: Annotated[Path, typer.Argument(help="CSV, TSV, JSONL, JSON or Excel, with a text in each row.")],
    min_confidence: Annotated[
        float | None, typer.Option(min=0, max=1, help="Predict nothing below this confidence.")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(min=1, help="How many labels each result has, the likeliest first; 1 unless given.")
    ] = None,
    exact: Exact = False,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    file_format: Format = None,
    encoding: Encoding = None,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the end of the job.")] = False,
    as_json: Json = False,
) -> None:
    """Send a file of texts, and wait until all are classified; labels in it are compared with the predictions."""
    output = Output(as_json)
    texts = BatchFile.read(file, Columns(text_column, label_column), file_format, encoding)
    with connect(context) as client:
        texts = texts.with_labels_of(lambda: _labels_of(client, ref))
        texts.preview(output)
        found = client.batches.create(
            ref,
            texts.lines,
            truncate="END",
            min_confidence=min_confidence,
            top_k=top_k,
            exact=exact or None,
        )
        if not detach:
            follow(client, found, output)
            found = found.refresh()
    output.result(found, lambda console: _print_batch(console, found))


def _labels_of(client: Contextune, ref: str) -> tuple[str, ...]:
    """The labels of a context; none where the key may classify but not read."""
    try:
        return client.contexts.get(ref).labels
    except PermissionDeniedError:
        return ()


@batch.command(name="list")
def list_batches(context: typer.Context, limit: Limit = 20, as_json: Json = False) -> None:
    """List batches, newest first."""
    with connect(context) as client:
        found = list(client.batches.list(limit=limit))
    Output(as_json).result(found, lambda console: console.print(jobs_table(found)))


@batch.command(name="show")
def show_batch(context: typer.Context, job: Id, as_json: Json = False) -> None:
    """Show a batch."""
    with connect(context) as client:
        found = client.batches.get(job)
    Output(as_json).result(found, lambda console: _print_batch(console, found))


@batch.command()
def results(
    context: typer.Context,
    job: Id,
    target: Target = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV with a header, in place of JSONL.")] = False,
    after: Annotated[int | None, typer.Option(help="Only results after the line with this index.")] = None,
    as_json: Json = False,
) -> None:
    """Print the results that are there, in the order of the lines, as JSONL or CSV."""
    if as_json and (target or as_csv):
        hint = "--output" if target else "--csv"
        raise typer.BadParameter("--json prints one envelope; leave one of the two out", param_hint=hint)
    with connect(context) as client:
        found = client.batches.results(job, after=after)
        if as_json:
            Output(as_json).result(list(found), lambda _: None)
        elif target is None:
            _write_results(found, sys.stdout, as_csv)
        else:
            with _replaced(target) as file:
                _write_results(found, file, as_csv)


@contextmanager
def _replaced(target: Path) -> Iterator[TextIO]:
    """A file to write in place of ``target``, which stays as it is unless all is written. A pipe is written to."""
    if target.exists() and not target.is_file():
        with target.open("w", encoding="utf-8", newline="") as file:
            yield file
        return
    partial = target.with_name(target.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            yield file
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _write_results(found: Iterator[BatchResult], file: TextIO, as_csv: bool) -> None:
    if not as_csv:
        file.writelines(one.model_dump_json() + "\n" for one in found)
        return
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["index", "id", "prediction", "confidence"])
    writer.writerows((one.index, one.id or "", one.prediction or "", f"{one.confidence:.6f}") for one in found)


@batch.command()
def errors(context: typer.Context, job: Id, as_json: Json = False) -> None:
    """Print the lines that could not be answered, as JSONL."""
    with connect(context) as client:
        found = client.batches.errors(job)
        if as_json:
            Output(as_json).result(list(found), lambda _: None)
        for one in found:
            sys.stdout.write(one.model_dump_json() + "\n")


def _print_batch(console: Console, found: Batch) -> None:
    counts = plain(found.counts)
    fields = [*job_fields(found), *counts.items(), ("expires", when(found.expires_at))]
    console.print(fields_table(fields))
    if found.report:
        print_report(console, found.report, tuple(found.report.per_label or ()))
