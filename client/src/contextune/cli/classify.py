"""``contextune classify``: texts in, predictions out, as a table, as lines to pipe, as JSONL or as CSV."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from contextune.cli.output import Json, Output, clipped, plain, table
from contextune.cli.reading import (
    Encoding,
    Exact,
    Examples,
    Format,
    LabelColumn,
    Labels,
    LabelsFile,
    TextColumn,
    Truncate,
    labels_of,
    texts_in,
    without_blank,
)
from contextune.cli.session import connect
from contextune.errors import InvalidRequestError, SourceError
from contextune.models.classification import Classification
from contextune.sources import Columns
from contextune.sources.reading import stream_lines

_KNOWN_ENDINGS: Final = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".xlsx", ".txt")
_TABLE_ROWS: Final = 256

Answered = Iterator[tuple[str, Classification]]


def classify(
    context: typer.Context,
    ref: Annotated[
        str | None, typer.Argument(help="The context: its name, name@version, name@alias or id; none with --examples.")
    ] = None,
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts, one file, or - for lines of the standard input.")
    ] = None,
    min_confidence: Annotated[float, typer.Option(min=0, max=1, help="Predict nothing below this confidence.")] = 0.0,
    truncate: Truncate = "END",
    top_k: Annotated[int | None, typer.Option(min=1, help="How many labels to tell, with --jsonl or --json.")] = None,
    exact: Exact = False,
    examples: Annotated[
        Path | None, typer.Option(help="A file of labelled examples to classify by at once, in place of a context.")
    ] = None,
    labels: Labels = None,
    labels_file: LabelsFile = None,
    model: Annotated[str | None, typer.Option(help="The base model, with --examples or --labels.")] = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    file_format: Format = None,
    encoding: Encoding = None,
    as_jsonl: Annotated[bool, typer.Option("--jsonl", help="Print a JSON object for each text.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header.")] = False,
    as_json: Json = False,
) -> None:
    """Classify texts with a context, or at once by the examples of a file or by labels, without tuning.

    Without --json, --jsonl or --csv a terminal gets a table, and a pipe lines of prediction, confidence and text with
    tabs between them.
    """
    arguments, columns = list(texts or []), Columns(text_column, label_column)
    at_once = bool(examples or labels or labels_file)
    if at_once and ref is not None:
        arguments, ref = [ref, *arguments], None
    elif ref is None and not at_once:
        raise typer.BadParameter("name a context, or give --examples or --labels", param_hint="REF")
    alone = not (labels or labels_file)
    brought = Examples.read(examples, columns, file_format, encoding, alone=alone) if examples else None
    options: dict[str, Any] = {
        "min_confidence": min_confidence,
        "truncate": truncate,
        "top_k": top_k,
        "exact": exact,
        "examples": brought and brought.examples,
        "labels": labels_of(labels, labels_file, encoding, brought.labels if brought else ()),
        "model": model,
    }
    inputs = _inputs(arguments, Columns(text_column), file_format, encoding)
    with connect(context) as client:
        given: list[str] = []
        classified = client.classify_many(ref, _kept(inputs, given), **{k: v for k, v in options.items() if v})
        answered = ((given[one.index], one) for one in classified)
        try:
            _write(answered, as_jsonl=as_jsonl, as_csv=as_csv, output=Output(as_json))
        except InvalidRequestError as error:
            raise (brought.blamed(error) if brought else error) from None


def _inputs(texts: list[str], columns: Columns, file_format: str | None, encoding: str | None) -> Iterable[str]:
    if texts in ([], ["-"]):
        if sys.stdin.isatty():
            raise typer.BadParameter("name a text or a file, or pipe lines in", param_hint="TEXT")
        return without_blank(stream_lines("the standard input", sys.stdin.buffer, encoding))
    path = Path(texts[0])
    named = path.suffix.lower() in _KNOWN_ENDINGS
    if len(texts) == 1 and (named or file_format or columns.text) and path.is_file():
        return texts_in(path, columns, file_format, encoding)
    if len(texts) == 1 and named and " " not in texts[0]:
        raise SourceError(f"{path}: cannot be read: No such file or directory")
    return texts


def _kept(inputs: Iterable[str], given: list[str]) -> Iterator[str]:
    for text in inputs:
        given.append(text)
        yield text


def _write(answered: Answered, *, as_jsonl: bool, as_csv: bool, output: Output) -> None:
    if output.as_json:
        output.result([_object(text, one) for text, one in answered], lambda _: None)
    elif as_jsonl:
        for text, one in answered:
            sys.stdout.write(json.dumps(_object(text, one), ensure_ascii=False) + "\n")
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["text", "prediction", "confidence"])
        writer.writerows((text, one.prediction or "", f"{one.confidence:.6f}") for text, one in answered)
    elif output.data.is_terminal:
        _tables(answered, output)
    else:
        for text, one in answered:
            sys.stdout.write(f"{one.prediction or ''}\t{one.confidence:.4f}\t{' '.join(text.split())}\n")


def _object(text: str, one: Classification) -> dict[str, Any]:
    fields: dict[str, Any] = plain(one)
    labels = {name: label["confidence"] for name, label in fields.pop("labels").items()}
    return {"text": text, **fields, "labels": labels}


def _tables(answered: Answered, output: Output) -> None:
    rows: list[tuple[str, str, str]] = []
    for text, one in answered:
        shown = "(not sure enough)" if one.abstained else clipped(one.prediction or "", 40)
        rows.append((shown, f"{one.confidence:.1%}", clipped(text)))
        if len(rows) == _TABLE_ROWS:
            output.data.print(table(["prediction", "confidence", "text"], rows, right=(1,)))
            rows = []
    if rows:
        output.data.print(table(["prediction", "confidence", "text"], rows, right=(1,)))
