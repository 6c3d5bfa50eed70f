"""The file of a form (RFC 7578), piece by piece as the form arrives. Knows nothing of what the file holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.contract.names import ErrorCode
from app.errors import DomainError

_FIELD: Final = b"file"
#: Most bytes of the form besides the file: boundaries, and the headers of the part.
FORM_BYTES: Final = 64 * 1024
_HEADERS: Final = 8
_HEADER_BYTES: Final = 4096


class FormFile:
    """A form with one part, ``file``. ``begin`` gets its content type and its name, ``take`` its bytes."""

    def __init__(self, boundary: bytes, begin: Callable[[str, str], None], take: Callable[[bytes], None]) -> None:
        self._begin = begin
        self._take = take
        self._headers: dict[bytes, bytes] = {}
        self._name = self._value = b""
        self._seen = self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_header_field": self._on_name,
                "on_header_value": self._on_value,
                "on_header_end": self._on_header,
                "on_headers_finished": self._on_headers,
                "on_part_data": self._on_data,
                "on_end": self._on_end,
            },
        )

    def feed(self, data: bytes) -> None:
        """Read what has arrived. Raises `DomainError` for anything but such a form, and what ``take`` raises."""
        try:
            self._parser.write(data)
        except FormParserError:
            raise _malformed("the form is not what its content type says") from None

    def end(self) -> None:
        """Raise `DomainError` unless the form is complete."""
        if not (self._seen and self._ended):
            raise _malformed("the form is incomplete: it must have one part, named file")

    def _on_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]
        self._check_header()

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._check_header()

    def _check_header(self) -> None:
        if len(self._name) + len(self._value) > _HEADER_BYTES or len(self._headers) > _HEADERS:
            raise _malformed("the part of the form has too many or too long headers")

    def _on_header(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if options.get(b"name") != _FIELD:
            raise DomainError(ErrorCode.INVALID_REQUEST, "the form has another part than file", "/file")
        if self._seen:
            raise DomainError(ErrorCode.INVALID_REQUEST, "the form has more than one file", "/file")
        self._seen = True
        kind = self._headers.get(b"content-type", b"").decode("latin-1")
        self._begin(kind, options.get(b"filename", b"").decode("utf-8", "replace"))

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._take(data[start:end])

    def _on_end(self) -> None:
        self._ended = True


def _malformed(detail: str) -> DomainError:
    return DomainError(ErrorCode.MALFORMED_REQUEST, detail)
