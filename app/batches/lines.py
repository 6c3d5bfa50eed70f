"""A file of texts as the lines that a worker reads: JSON lines as they are, CSV as JSON lines.

What makes the file as a whole unusable is a `DomainError` here. What is wrong with one line is left to the worker.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NoReturn

from app.contract.batches import MAX_BATCH_LINES, MAX_LINE_BYTES
from app.contract.names import ErrorCode
from app.errors import DomainError

_BOM: Final = b"\xef\xbb\xbf"
_COLUMNS: Final = ("text", "id", "label")
#: Rows of CSV that are written at once.
_ROWS: Final = 1000

# A cell may be as long as a line: what is too long in it is left to the worker. The limit is the process's.
csv.field_size_limit(MAX_LINE_BYTES)


class JsonLines:
    """JSON lines, ``most`` of them, as they arrive.

    They are written by ``write`` without blank ones and cut where they are far too long.
    """

    def __init__(self, write: Callable[[bytes], None], most: int = MAX_BATCH_LINES) -> None:
        self._write = write
        self._most = most
        self._rest = b""
        self._begun = False
        self.count = 0

    def feed(self, data: bytes) -> None:
        """Take what has arrived. Raises `DomainError`."""
        *lines, rest = (self._rest + data).split(b"\n")
        self._take(lines)
        # Of a line that is cut anyway, no more is held than what is left of it.
        self._rest = rest[: MAX_LINE_BYTES + 1]

    def end(self) -> None:
        """Take what is left. Raises `DomainError`."""
        self._take([self._rest])
        _check_count(self.count)

    def _take(self, lines: Sequence[bytes]) -> None:
        if not self._begun and lines:
            lines = [lines[0].removeprefix(_BOM), *lines[1:]]
        kept = [line[: MAX_LINE_BYTES + 1] for line in lines if line and not line.isspace()]
        if not kept:
            return
        if not self._begun and not kept[0].lstrip().startswith(b"{"):
            raise DomainError(ErrorCode.INVALID_JSON, "JSON lines begin with {: an object with a text on each line")
        self._begun = True
        self.count += len(kept)
        _check_not_more(self.count, self._most)
        kept.append(b"")
        self._write(b"\n".join(kept))


def lines_of_csv(file: Any, write: Callable[[bytes], None], most: int = MAX_BATCH_LINES) -> int:
    """Write the rows of a CSV file (RFC 4180, UTF-8, with a header) as JSON lines; return how many there are.

    There may be ``most``. Of the columns ``text``, ``id`` and ``label`` are read. Raises `DomainError`.
    """
    with io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        return _written(text, write, most)


def _written(text: io.TextIOWrapper, write: Callable[[bytes], None], most: int) -> int:
    reader = csv.reader(_short_lines(text), strict=True)
    count = 0
    gathered: list[bytes] = []
    try:
        header = next((row for row in reader if row), [])
        places = _places(header)
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                _refuse(reader.line_num, f"has {len(row)} cells, the header has {len(header)}")
            count += 1
            _check_not_more(count, most)
            line = {name: row[place] for name, place in places.items() if row[place] or name == "text"}
            # Of a line that is too long the worker reads a byte more than one may have, and no further.
            gathered.append(json.dumps(line, ensure_ascii=False).encode()[: MAX_LINE_BYTES + 1])
            if len(gathered) == _ROWS:
                write(_joined(gathered))
                gathered.clear()
    except csv.Error as error:
        _refuse(reader.line_num, f"is not CSV as RFC 4180 has it: {error}")
    if gathered:
        write(_joined(gathered))
    _check_count(count)
    return count


def _short_lines(text: io.TextIOWrapper) -> Iterator[str]:
    """The lines of a file, none of which may be so long that it takes much memory."""
    number = 0
    while line := _next_line(text, number):
        number += 1
        if len(line) == MAX_LINE_BYTES and not line.endswith("\n"):
            _refuse(number, f"is longer than {MAX_LINE_BYTES} characters")
        yield line


def _next_line(text: io.TextIOWrapper, number: int) -> str:
    """The line behind the first ``number`` lines."""
    try:
        return text.readline(MAX_LINE_BYTES)
    except UnicodeDecodeError as error:
        # What is decoded at once begins behind the last line, and may be many lines.
        _refuse(number + error.object.count(b"\n", 0, error.start) + 1, "is not UTF-8")


def _places(header: Sequence[str]) -> dict[str, int]:
    names = [name.strip().lower() for name in header]
    places: dict[str, int] = {name: names.index(name) for name in _COLUMNS if name in names}
    if "text" not in places:
        detail = "the first line of CSV names the columns, separated by commas, and one of them must be text"
        raise DomainError(ErrorCode.INVALID_REQUEST, detail)
    return places


def _joined(lines: Sequence[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def _refuse(line: int, why: str) -> NoReturn:
    raise DomainError(ErrorCode.INVALID_REQUEST, f"line {line} {why}")


def _check_not_more(count: int, most: int) -> None:
    if count > most:
        raise DomainError(ErrorCode.TOO_MANY_INPUTS, f"a batch has at most {most} lines")


def _check_count(count: int) -> None:
    if not count:
        raise DomainError(ErrorCode.INVALID_REQUEST, "the file has no lines")
