"""Files named on the command line: their options, what was found in them, and which line a pointer means."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import typer

from contextune.cli.output import Output, clipped, table
from contextune.errors import InvalidRequestError, SourceError
from contextune.models.contexts import LabelDescription
from contextune.sources import Columns, labels_from
from contextune.sources.columns import settle
from contextune.sources.examples import SourcedExample, examples_in, text_of
from contextune.sources.tables import MAX_FILE_BYTES, Table, read_table

TextColumn: TypeAlias = Annotated[str | None, typer.Option("--text-column", help="The column that holds the text.")]
LabelColumn: TypeAlias = Annotated[str | None, typer.Option("--label-column", help="The column that holds the label.")]
IdColumn: TypeAlias = Annotated[str | None, typer.Option("--id-column", help="The column that holds the text's id.")]
Format: TypeAlias = Annotated[
    str | None,
    typer.Option("--format", help="csv, tsv, jsonl, json, xlsx or txt, where the ending does not say."),
]
Encoding: TypeAlias = Annotated[str | None, typer.Option(help="The file's encoding, where it is not UTF-8.")]
Labels: TypeAlias = Annotated[
    list[str] | None, typer.Option("--labels", help="A label, as NAME or NAME=DESCRIPTION; may be given again.")
]
LabelsFile: TypeAlias = Annotated[
    Path | None, typer.Option(help="A file of labels, with a label and its description in each row.")
]

Truncate: TypeAlias = Annotated[
    Literal["NONE", "START", "END"],
    typer.Option(case_sensitive=False, help="What to cut of a text that is too long."),
]
Exact: TypeAlias = Annotated[bool, typer.Option("--exact", help="Score every label, without a shortlist.")]

PREVIEW_ROWS: Final = 4
_POINTER: Final = re.compile(r"/examples/(\d+)(?:/.*)?")


class Examples:
    """The labelled examples of a file. Pointers of the service are theirs if they stand ``alone``."""

    def __init__(self, path: Path, examples: Sequence[SourcedExample], columns: Columns, *, alone: bool) -> None:
        self.path = path
        self.alone = alone
        self.examples = examples
        self.columns = columns
        self.labels = list(dict.fromkeys(example.label for example in examples))

    @classmethod
    def read(
        cls, path: Path, columns: Columns, file_format: str | None, encoding: str | None, *, alone: bool = False
    ) -> Examples:
        """Read them; they need two labels if they stand ``alone``. Raises ``SourceError``."""
        return cls(
            path, *examples_in(open_table(path, columns, file_format, encoding), columns, alone=alone), alone=alone
        )

    def preview(self, output: Output) -> None:
        """Say what was found, and in which columns."""
        if output.as_json:
            return
        found = f"{len(self.examples)} examples with {len(self.labels)} labels in {self.path}"
        output.note(f"{found} (text: {self.columns.text!r}, label: {self.columns.label!r})")
        if self.columns.guessed:
            shown = [(clipped(one.label, 24), clipped(one.text, 80)) for one in self.examples[:PREVIEW_ROWS]]
            output.notes.print(table(["label", "text"], shown))

    def located(self, pointer: str) -> str:
        """The example that a JSON pointer means, as a person finds it in the file."""
        example = self._at(pointer)
        if example is None:
            return pointer
        return f"{example.where}: {clipped(example.text, 50)!r} ({example.label})"

    def blamed(self, error: InvalidRequestError) -> SourceError | InvalidRequestError:
        """A refusal of the service, with the line that it is about where it is about one."""
        example = self._at(error.param or "")
        if example is None:
            return error
        detail = error.detail.removeprefix(f"{error.param}: ")
        return SourceError(f"{self.path}, {example.where}: {detail}")

    def _at(self, pointer: str) -> SourcedExample | None:
        match = _POINTER.fullmatch(pointer)
        if not self.alone or not match or int(match[1]) >= len(self.examples):
            return None
        return self.examples[int(match[1])]


def labels_of(
    written: Sequence[str] | None, file: Path | None, encoding: str | None, also: Iterable[str] = ()
) -> list[LabelDescription] | None:
    """The labels that were given, then those of ``also`` that are not among them; None where none was given.

    Raises ``SourceError``.
    """
    given = [*(labels_from(file, None, encoding) if file else ()), *map(_label, written or ())]
    if not given:
        return None
    names = [label.name for label in given]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise typer.BadParameter(f"the label {twice!r} is given twice", param_hint="--labels")
    return [*given, *(LabelDescription(name=name) for name in dict.fromkeys(also) if name not in names)]


def _label(written: str) -> LabelDescription:
    name, _, description = written.partition("=")
    if not name.strip():
        raise typer.BadParameter(f"{written!r} names no label", param_hint="--labels")
    return LabelDescription(name=name.strip(), description=description.strip() or None)


def texts_in(path: Path, columns: Columns, file_format: str | None, encoding: str | None) -> Iterator[str]:
    """The texts of a file. Raises ``SourceError``."""
    found, settled = settle(open_table(path, columns, file_format, encoding), columns, label_needed=False)
    return (text_of(found, row, settled.text) for row in found.rows)


def without_blank(lines: Iterable[str]) -> Iterator[str]:
    """Lines without their ends, but for blank ones."""
    return (line.rstrip("\r\n") for line in lines if line.strip())


def open_table(
    path: Path,
    columns: Columns,
    file_format: str | None,
    encoding: str | None,
    most_bytes: int = MAX_FILE_BYTES,
) -> Table:
    """The table in a file, with the columns that are named in it. Raises ``SourceError``."""
    table_there = read_table(path, file_format, encoding, most_bytes)
    named = ((columns.text, "--text-column"), (columns.label, "--label-column"), (columns.id, "--id-column"))
    for name, option in named:
        if name is not None and name not in table_there.columns:
            listed = ", ".join(table_there.columns[:20])
            raise SourceError(f"{path}: there is no column {name!r} for {option}; the columns are: {listed}")
    return table_there
