"""Bodies of batches: what a caller has as a stream of lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias, cast

from contextune.errors import SourceError
from contextune.protocol.call import Upload
from contextune.sources.columns import Columns, settle
from contextune.sources.examples import as_table, label_of, text_of
from contextune.sources.reading import check_size
from contextune.sources.tables import Table, read_table

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


def jsonl(table: Table, columns: Columns) -> Iterator[bytes]:
    """The rows of a table as JSONL: a text, and an id and a label where there are such."""
    table, settled = settle(table, columns, label_needed=False)
    gathered: list[bytes] = []
    size = 0
    for row in table.rows:
        line: dict[str, str] = {"text": text_of(table, row, settled.text)}
        if settled.id and row.cells.get(settled.id) is not None:
            line["id"] = str(row.cells[settled.id])
        if settled.label and row.cells.get(settled.label) not in (None, ""):
            line["label"] = label_of(table, row, settled.label)
        gathered.append(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        size += len(gathered[-1])
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
