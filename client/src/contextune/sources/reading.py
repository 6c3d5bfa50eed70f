"""Bytes of a file to lines of text, with the number of each line. It knows no format."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from contextune.errors import SourceError

_MAX_LINE_BYTES: Final = 4 * 1024 * 1024
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def check_size(path: Path, most: int) -> None:
    """Raise ``SourceError`` for a file that cannot be read or that has more than ``most`` bytes."""
    try:
        size = path.stat().st_size
        with path.open("rb"):
            pass
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from error
    if size > most:
        raise SourceError(f"{path} has {readable_size(size)}; at most {readable_size(most)} can be sent")
    if size == 0:
        raise SourceError(f"{path} is empty")


def readable_size(size: int) -> str:
    """A number of bytes as a person says it."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}".replace(".0 ", " ")
    return f"{size} bytes"


def text_lines(path: Path, encoding: str | None) -> Iterator[str]:
    """The lines of a file, with their line ends, of which each ends with a line feed.

    The file is UTF-8 unless it begins with another mark, or ``encoding``.
    """
    with path.open("rb") as file:
        encoding = _known(encoding) if encoding else _marked(file)
        if encoding.startswith(("utf-16", "utf-32")):
            yield from io.StringIO(_decode(path, 1, file.read(), encoding), newline="\n")
            return
        yield from _lines_in(path, file, encoding)


def stream_lines(name: str, stream: BinaryIO, encoding: str | None) -> Iterator[str]:
    """The lines of what comes once, such as standard input, called ``name`` in faults. UTF-8 unless ``encoding``."""
    yield from _lines_in(name, stream, _known(encoding) if encoding else "utf-8-sig")


def _lines_in(name: str | Path, file: BinaryIO, encoding: str) -> Iterator[str]:
    number = 0
    while raw := file.readline(_MAX_LINE_BYTES):
        number += 1
        if len(raw) == _MAX_LINE_BYTES and not raw.endswith(b"\n"):
            raise SourceError(f"{name}, line {number}: longer than {readable_size(_MAX_LINE_BYTES)}")
        line = _decode(name, number, raw, encoding if number == 1 else encoding.removesuffix("-sig"))
        if "\0" in line:
            raise SourceError(f"{name}, line {number}: holds a NUL character; this is no text file")
        yield line


def _known(encoding: str) -> str:
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        raise SourceError(f"there is no encoding {encoding!r}; utf-8, latin-1, cp1252 and gb18030 are some") from None


def _marked(file: BinaryIO) -> str:
    start = file.read(4)
    file.seek(0)
    return next((name for mark, name in _MARKS if start.startswith(mark)), "utf-8")


def _decode(name: str | Path, number: int, raw: bytes, encoding: str) -> str:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        where = f"{name}, line {number}: byte 0x{raw[error.start]:02x} is not {error.encoding.upper()}"
        raise SourceError(f"{where}; save the file as UTF-8 or name its encoding (such as cp1252)") from None
