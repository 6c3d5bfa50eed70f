"""The file of a batch: what was found in it, and the lines that are sent. It is read twice, and never held whole."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from contextune.cli.output import Output, clipped, table
from contextune.cli.reading import PREVIEW_ROWS, open_table
from contextune.errors import SourceError
from contextune.sources import Columns
from contextune.sources.lines import MAX_BATCH_BYTES, FileLines, Line

#: The name that the service gives to the column of labels.
_LABEL: Final = "label"


@dataclass(frozen=True)
class BatchFile:
    """A file that was read to its end. ``labels`` are those in it, ``first`` its first lines."""

    path: Path
    lines: FileLines
    columns: Columns
    count: int
    labels: frozenset[str]
    first: list[Line]

    @classmethod
    def read(cls, path: Path, columns: Columns, file_format: str | None, encoding: str | None) -> BatchFile:
        """Find the columns, and count the lines. Raises ``SourceError``."""
        found = FileLines(partial(open_table, path, columns, file_format, encoding, MAX_BATCH_BYTES), columns)
        settled, lines = found.read()
        count, labels, first = 0, set[str](), list[Line]()
        for line in lines:
            count += 1
            if line.label is not None:
                labels.add(line.label)
            if len(first) < PREVIEW_ROWS:
                first.append(line)
        if not count:
            raise SourceError(f"{path}: there is no text")
        return cls(path, found, settled, count, frozenset(labels), first)

    def with_labels_of(self, known: Callable[[], Collection[str]]) -> BatchFile:
        """The file without its labels, if their column was guessed and none of them is ``known``.

        Columns such as `type` and `topic` often hold something else. Without a doubt nothing is asked.
        """
        guessed = self.columns.label is not None and self.columns.label != self.lines.columns.label
        if not guessed or (self.columns.label or "").strip().lower() == _LABEL or not self.labels.isdisjoint(known()):
            return self
        return replace(
            self,
            lines=replace(self.lines, labelled=False),
            columns=replace(self.columns, label=None),
            labels=frozenset(),
            first=[replace(line, label=None) for line in self.first],
        )

    def preview(self, output: Output) -> None:
        """Say what was found, and in which columns."""
        if output.as_json:
            return
        named = {"text": self.columns.text, "label": self.columns.label, "id": self.columns.id}
        taken = [f"{what}: {column!r}" for what, column in named.items() if column is not None]
        taken += ["no id column"] if self.columns.id is None else []
        labels = f" with {len(self.labels)} labels" if self.columns.label is not None else ""
        output.note(f"{self.count} texts{labels} in {self.path} ({', '.join(taken)})")
        if self.columns.guessed:
            shown = [(clipped(one.label or "", 24), clipped(one.text, 80)) for one in self.first]
            output.notes.print(
                table(["label", "text"], shown) if labels else table(["text"], [row[1:] for row in shown])
            )
