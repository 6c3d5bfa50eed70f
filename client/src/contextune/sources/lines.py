"""Bodies of batches: what a caller has as a stream of lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias, cast

from contextune.errors import SourceError
from contextune.protocol.call import Upload
from contextune.sources.columns import Columns, settle
from contextune.sources.examples import any_text_of, as_table, label_of, text_of
from contextune.sources.reading import check_size
from contextune.sources.tables import Row, Table, read_table

#: A path, a binary file, a table of pandas or polars, or an iterable of texts, mappings or pairs (text, label).
LineSource: TypeAlias = "str | Path | BinaryIO | Iterable[Any] | Any"

MAX_BATCH_BYTES: Final = 512 * 1024 * 1024
_CHUNK_BYTES: Final = 64 * 1024
#: Formats that the service reads by itself.
_SENT_AS_THEY_ARE: Final = {".jsonl": "application/jsonl", ".ndjson": "application/jsonl", ".csv": "text/csv"}


def lines_from(source: LineSource, columns: Columns | None = None, content_type: str | None = None) -> Upload:
    """The body of a batch.

    JSONL and CSV files go as they are unless ``columns`` are named; a binary file is of ``content_type``, JSONL unless
    given. All else becomes JSONL. Raises ``SourceError`` here, or while the body is made.
    """
    if isinstance(source, FileLines):
        return Upload(source.chunks, "application/jsonl")
    if isinstance(source, (str, Path)):
        path = Path(source)
        kind = content_type or _SENT_AS_THEY_ARE.get(path.suffix.lower())
        check_size(path, MAX_BATCH_BYTES)
        if kind and columns is None:
            return Upload(lambda: _file_chunks(path), kind)
        return Upload(
            lambda: jsonl(read_table(path, most_bytes=MAX_BATCH_BYTES), columns or Columns()), "application/jsonl"
        )
    if hasattr(source, "read"):
        file = cast("BinaryIO", source)
        if isinstance(file.read(0), str):
            raise SourceError("open the file in binary mode")
        kind = content_type or "application/jsonl"
        return Upload(lambda: _rewound(file), kind, repeatable=bool(getattr(file, "seekable", bool)()))
    repeatable = iter(source) is not source if hasattr(source, "__iter__") else False
    return Upload(lambda: jsonl(as_table(source), columns or Columns()), "application/jsonl", repeatable)


@dataclass(frozen=True)
class Line:
    """A text of a batch, with the label and the id that it may have."""

    text: str
    label: str | None
    id: str | None

    @property
    def body(self) -> bytes:
        """The line as the service takes it. A lone surrogate stays escaped, for the service to refuse."""
        fields = {"text": self.text, "id": self.id, "label": self.label}
        given = {name: value for name, value in fields.items() if value is not None}
        try:
            return json.dumps(given, ensure_ascii=False).encode() + b"\n"
        except UnicodeEncodeError:
            return json.dumps(given).encode() + b"\n"


@dataclass(frozen=True)
class FileLines:
    """The lines of a file that ``open`` opens, with the columns found in it each time. The file is never held whole.

    A text that is empty or too long is kept: the service answers for each line. ``labelled`` is whether labels are.
    """

    open: Callable[[], Table]
    columns: Columns
    labelled: bool = True

    def read(self) -> tuple[Columns, Iterator[Line]]:
        """The columns that are read, and the lines. Raises ``SourceError`` here, or while they are read."""
        table, settled = settle(self.open(), self.columns, label_needed=False)
        if not self.labelled:
            settled = replace(settled, label=None)
        return settled, (_line(table, row, settled, any_text_of) for row in table.rows)

    def chunks(self) -> Iterator[bytes]:
        """The lines as JSONL."""
        _, lines = self.read()
        return _joined(line.body for line in lines)


def jsonl(table: Table, columns: Columns) -> Iterator[bytes]:
    """The rows of a table as JSONL: a text, and an id and a label where there are such."""
    table, settled = settle(table, columns, label_needed=False)
    return _joined(_line(table, row, settled, text_of).body for row in table.rows)


def _line(table: Table, row: Row, columns: Columns, text: Callable[[Table, Row, str | None], str]) -> Line:
    label = row.cells.get(columns.label) if columns.label else None
    identity = row.cells.get(columns.id) if columns.id else None
    return Line(
        text=text(table, row, columns.text),
        label=None if _blank(label) else label_of(table, row, columns.label),
        id=None if _blank(identity) else str(identity),
    )


def _blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _joined(lines: Iterable[bytes]) -> Iterator[bytes]:
    gathered: list[bytes] = []
    size = 0
    for line in lines:
        gathered.append(line)
        size += len(line)
        if size >= _CHUNK_BYTES:
            yield b"".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)


def _file_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from _chunks(file)


def _rewound(file: BinaryIO) -> Iterator[bytes]:
    if file.seekable():
        file.seek(0)
    yield from _chunks(file)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk
