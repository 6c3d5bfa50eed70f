"""What is done of a batch, as a stream of lines: chunk by chunk, however much of it there is."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

from app.records.batches import Batches
from app.records.chunks import Chunk

#: Bytes that are sent at once.
_BLOCK_BYTES: Final = 64 * 1024
#: Every line of the files begins like this.
_INDEX: Final = b'{"index":'

_RESULT_COLUMNS: Final = ("index", "id", "prediction", "confidence", "abstained", "labels")


def as_jsonl(
    batches: Batches, chunks: Sequence[Chunk], what: Literal["results", "errors"], after: int
) -> Iterator[bytes]:
    """The results or the errors after the line with the index ``after``, in blocks."""
    return _blocks(_lines(batches, chunks, what, after))


def results_as_csv(batches: Batches, chunks: Sequence[Chunk], after: int) -> Iterator[bytes]:
    """The results after the line with the index ``after`` as CSV with a header, in blocks; labels are JSON."""
    return _blocks(_rows(_lines(batches, chunks, "results", after)))


def _lines(
    batches: Batches, chunks: Sequence[Chunk], what: Literal["results", "errors"], after: int
) -> Iterator[bytes]:
    for chunk in chunks:
        address = chunk.results if what == "results" else chunk.errors
        if address is None or chunk.next <= after + 1:
            continue
        lines = batches.lines(address)
        yield from lines if chunk.first > after else (line for line in lines if _index_of(line) > after)


def _index_of(line: bytes) -> int:
    return int(line[len(_INDEX) : line.index(b",")])


def _rows(lines: Iterator[bytes]) -> Iterator[bytes]:
    yield _row(_RESULT_COLUMNS)
    for line in lines:
        result: dict[str, Any] = json.loads(line)
        labels = {name: label["confidence"] for name, label in result["labels"].items()}
        result["labels"] = json.dumps(labels, ensure_ascii=False)
        result["abstained"] = "true" if result["abstained"] else "false"
        yield _row(["" if result[name] is None else str(result[name]) for name in _RESULT_COLUMNS])


def _row(cells: Sequence[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().encode()


def _blocks(lines: Iterator[bytes]) -> Iterator[bytes]:
    gathered: list[bytes] = []
    size = 0
    for line in lines:
        gathered.append(line)
        size += len(line)
        if size >= _BLOCK_BYTES:
            yield b"".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)
