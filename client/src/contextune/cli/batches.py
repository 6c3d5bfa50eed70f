"""``contextune batch``."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, TextIO

import typer
from rich.console import Console

from contextune.cli.batch_file import BatchFile
from contextune.cli.failures import UnfinishedError
from contextune.cli.output import Json, Output, plain
from contextune.cli.pages import fields_table, job_fields, jobs_table, when
from contextune.cli.progress import follow
from contextune.cli.reading import Encoding, Exact, Format, IdColumn, LabelColumn, TextColumn, Truncate
from contextune.cli.report_page import print_report
from contextune.cli.session import connect
from contextune.client import Contextune
from contextune.errors import PermissionDeniedError
from contextune.models.batches import Batch, BatchResult
from contextune.replacing import replaced
from contextune.sources import Columns

batch = typer.Typer(
    help="Classify many texts of a file in one job, which `jobs wait`, `jobs cancel` and `jobs delete` take too.",
    no_args_is_help=True,
)

Id = Annotated[str, typer.Argument(help="The job's id.")]
Limit = Annotated[int, typer.Option(min=1, help="How many at most.")]
Target = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write to this file, once the batch has all results.")
]

_COLUMNS: Final = ("index", "id", "prediction", "confidence", "abstained", "labels")


@batch.command()
def create(
    context: typer.Context,
    ref: Annotated[str, typer.Argument(help="The context: its name, name@version, name@alias or id.")],
    file: Annotated[
        Path,
        typer.Argument(help="CSV, TSV, JSONL, JSON or Excel, with a text in each row, or .txt with one a line."),
    ],
    min_confidence: Annotated[
        float | None, typer.Option(min=0, max=1, help="Predict nothing below this confidence.")
    ] = None,
    truncate: Truncate = "END",
    top_k: Annotated[
        int | None, typer.Option(min=1, help="How many labels each result has, the likeliest first; 1 unless given.")
    ] = None,
    exact: Exact = False,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    id_column: IdColumn = None,
    file_format: Format = None,
    encoding: Encoding = None,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the end of the job.")] = False,
    as_json: Json = False,
) -> None:
    """Send a file of texts, and wait until all are classified; labels in it are compared with the predictions."""
    output = Output(as_json)
    texts = BatchFile.read(file, Columns(text_column, label_column, id_column), file_format, encoding)
    with connect(context) as client:
        texts = texts.with_labels_of(lambda: _labels_of(client, ref))
        texts.preview(output)
        found = client.batches.create(
            ref,
            texts.lines,
            truncate=truncate,
            min_confidence=min_confidence,
            top_k=top_k,
            exact=exact or None,
        )
        if not detach:
            follow(client, found, output)
            found = found.refresh()
    output.result(found, lambda console: _print_batch(console, found))
    output.note(f"\nRead the results: contextune batch results {found.id}")


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
    as_csv: Annotated[
        bool, typer.Option("--csv", help="CSV with a header, in place of JSONL; implied by an output *.csv.")
    ] = False,
    after: Annotated[int | None, typer.Option(help="Only results after the line with this index.")] = None,
    as_json: Json = False,
) -> None:
    """Print the results that are there, in the order of the lines, as JSONL or CSV.

    With --output the file is written once the batch has succeeded; before that the exit status is 8.
    """
    if as_json and (target or as_csv):
        hint = "--output" if target else "--csv"
        raise typer.BadParameter("--json prints one envelope; leave one of the two out", param_hint=hint)
    output = Output(as_json)
    as_csv = as_csv or (target is not None and target.suffix.lower() == ".csv")
    with connect(context) as client:
        batch_now = client.batches.get(job)
        if target is not None and not _complete(batch_now):
            raise UnfinishedError(f"the batch {job} is {batch_now.status}: {_done(batch_now)}; {target} is not written")
        found = client.batches.results(job, after=after)
        if as_json:
            output.result(list(found), lambda _: None)
        elif target is None:
            _write_results(found, sys.stdout, as_csv)
        else:
            with replaced(target) as partial, partial.open("w", encoding="utf-8", newline="") as file:
                _write_results(found, file, as_csv)
    _tell_unless_complete(batch_now, output)


def _write_results(found: Iterator[BatchResult], file: TextIO, as_csv: bool) -> None:
    if not as_csv:
        file.writelines(one.model_dump_json() + "\n" for one in found)
        return
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(_COLUMNS)
    writer.writerows(_cells(one) for one in found)


def _cells(one: BatchResult) -> tuple[str | int | float | None, ...]:
    """The row that the service's own CSV has for a result."""
    labels = {name: label.confidence for name, label in one.labels.items()}
    abstained = "true" if one.abstained else "false"
    return one.index, one.id, one.prediction, one.confidence, abstained, json.dumps(labels, ensure_ascii=False)


@batch.command()
def errors(context: typer.Context, job: Id, as_json: Json = False) -> None:
    """Print the lines that could not be answered, as JSONL."""
    output = Output(as_json)
    with connect(context) as client:
        batch_now = client.batches.get(job)
        found = client.batches.errors(job)
        if as_json:
            output.result(list(found), lambda _: None)
        for one in found:
            sys.stdout.write(one.model_dump_json() + "\n")
    _tell_unless_complete(batch_now, output)


def _complete(found: Batch) -> bool:
    return found.status == "succeeded"


def _done(found: Batch) -> str:
    return f"{found.counts.done + found.counts.failed} of {found.counts.total} are done"


def _tell_unless_complete(found: Batch, output: Output) -> None:
    if not _complete(found):
        output.notes.print(f"{_done(found)}; the batch is {found.status}")


def _print_batch(console: Console, found: Batch) -> None:
    counts = plain(found.counts)
    fields = [*job_fields(found), *counts.items(), ("expires", when(found.expires_at))]
    console.print(fields_table(fields))
    if found.report:
        print_report(console, found.report, tuple(found.report.per_label or ()))
