"""``contextune eval``: how good a context is on labelled texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

from contextune.cli import failures
from contextune.cli.figures import Figures, Judged, figures_of
from contextune.cli.output import Json, Output, clipped, table
from contextune.cli.reading import Encoding, Examples, Format, LabelColumn, TextColumn
from contextune.cli.session import connect
from contextune.errors import SourceError
from contextune.sources import Columns

_MOST_ROWS: Final = 12


def evaluate(
    context: typer.Context,
    ref: Annotated[str, typer.Argument(help="The context: its name, name@version, name@alias or id.")],
    file: Annotated[Path, typer.Argument(help="CSV, TSV, JSONL, JSON or Excel, with a text and a label in each row.")],
    min_accuracy: Annotated[
        float | None, typer.Option(min=0, max=1, help="Exit with status 9 below this accuracy.")
    ] = None,
    errors: Annotated[int, typer.Option(min=0, help="How many wrong predictions to show.")] = 5,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    file_format: Format = None,
    encoding: Encoding = None,
    as_json: Json = False,
) -> None:
    """Measure a context on labelled texts that it was not tuned on."""
    output = Output(as_json)
    examples = Examples.read(file, Columns(text_column, label_column), file_format, encoding)
    examples.preview(output)
    with connect(context) as client:
        known = client.contexts.get(ref)
        unknown = next((one for one in examples.examples if one.label not in known.labels), None)
        if unknown is not None:
            listed = ", ".join(known.labels[:20])
            raise SourceError(
                f"{file}, {unknown.where}: {ref} has no label {unknown.label!r}; its labels are: {listed}"
            )
        answers = client.classify_many(known, (one.text for one in examples.examples), truncate="END")
        judged = [
            Judged(one.text, one.where, one.label, answer.prediction, answer.confidence,
                   {name: label.confidence for name, label in answer.labels.items()})
            for one, answer in zip(examples.examples, answers, strict=True)
        ]  # fmt: skip
    figures = figures_of(judged)
    output.result(asdict(figures), lambda console: _print(console, figures, judged, errors))
    if min_accuracy is not None and figures.accuracy < min_accuracy:
        output.note(f"The accuracy {figures.accuracy:.1%} is below {min_accuracy:.1%}.")
        raise typer.Exit(failures.BELOW_TARGET)


def _print(console: Console, figures: Figures, judged: list[Judged], errors: int) -> None:
    low, high = figures.accuracy_ci95
    console.print(f"accuracy {figures.accuracy:.1%} ({low:.1%} to {high:.1%}) on {figures.n} texts", style="bold")
    console.print(f"macro F1 {figures.macro_f1:.1%}, log loss {figures.nll:.3f}, calibration error {figures.ece:.3f}")
    console.print()
    for part in (_label_table(figures), *_confusion_lines(figures), *_wrong_lines(judged, errors)):
        console.print(part)


def _label_table(figures: Figures) -> Text:
    worst = sorted(figures.per_label.items(), key=lambda item: item[1].f1)[:_MOST_ROWS]
    rows = [(clipped(name, 40), *(f"{value:.0%}" for value in (one.precision, one.recall, one.f1)), one.n)
            for name, one in worst]  # fmt: skip
    return table(["label", "precision", "recall", "F1", "texts"], rows, right=(1, 2, 3, 4))


def _confusion_lines(figures: Figures) -> Iterator[str]:
    for index, one in enumerate(figures.confusions[:_MOST_ROWS]):
        yield f"{'' if index else chr(10)}{one['n']} of {one['label']!r} predicted as {one['prediction']!r}"


def _wrong_lines(judged: list[Judged], most: int) -> Iterator[str]:
    wrong = sorted((one for one in judged if one.prediction != one.label), key=lambda one: -one.confidence)
    for index, one in enumerate(wrong[:most]):
        said = f"{one.prediction!r} ({one.confidence:.0%}) instead of {one.label!r}"
        yield f"{'' if index else chr(10)}{one.where}: {clipped(one.text, 60)!r}: {said}"
