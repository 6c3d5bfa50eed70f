"""Forms with a file (RFC 7578), piece by piece as they arrive. Knows nothing of what the file and the fields hold."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.contract.names import ErrorCode
from app.errors import DomainError

_FILE: Final = "file"
#: Most bytes of a form besides its file and fields: boundaries, and the headers of the parts.
FORM_BYTES: Final = 64 * 1024
#: Most bytes of all fields together.
FIELD_BYTES: Final = 1024 * 1024
_HEADERS: Final = 8
_HEADER_BYTES: Final = 4096


class FormFile:
    """A form with a part ``file`` and perhaps some of the ``fields``, each once.

    ``begin`` gets the file's content type and its name, ``take`` its bytes. Raises `DomainError` for a ``boundary``
    that is far too long.
    """

    def __init__(
        self,
        boundary: bytes,
        begin: Callable[[str, str], None],
        take: Callable[[bytes], None],
        fields: Collection[str] = (),
    ) -> None:
        self._begin = begin
        self._take = take
        self._fields = fields
        self._headers: dict[bytes, bytes] = {}
        self._name = self._value = b""
        self._part = ""
        self._contents: dict[str, bytearray] = {}
        self._ended = False
        try:
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
        except FormParserError:
            raise _malformed("the boundary of the form is too long") from None

    def feed(self, data: bytes) -> None:
        """Read what has arrived. Raises `DomainError` for anything but such a form, and what ``take`` raises."""
        try:
            self._parser.write(data)
        except FormParserError:
            raise _malformed("the form is not what its content type says") from None

    def end(self) -> dict[str, str]:
        """The fields. Raises `DomainError` unless the form is complete and they are UTF-8."""
        if not (_FILE in self._contents and self._ended):
            raise _malformed("the form is incomplete: it must have a part named file")
        try:
            return {name: content.decode() for name, content in self._contents.items() if name != _FILE}
        except UnicodeDecodeError:
            raise _malformed("the fields of the form must be UTF-8") from None

    def _on_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]
        self._check_header()

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._check_header()

    def _check_header(self) -> None:
        if len(self._name) + len(self._value) > _HEADER_BYTES or len(self._headers) > _HEADERS:
            raise _malformed("a part of the form has too many or too long headers")

    def _on_header(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._part = options.get(b"name", b"").decode("utf-8", "replace")
        kind, self._headers = self._headers.get(b"content-type", b"").decode("latin-1"), {}
        if self._part not in (_FILE, *self._fields):
            known = ", ".join(["file", *self._fields])
            raise DomainError(ErrorCode.INVALID_REQUEST, f"the form has another part than {known}", "/file")
        if self._part in self._contents:
            raise DomainError(ErrorCode.INVALID_REQUEST, "the form has a part more than once", f"/{self._part}")
        self._contents[self._part] = bytearray()
        if self._part == _FILE:
            self._begin(kind, options.get(b"filename", b"").decode("utf-8", "replace"))

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._part == _FILE:
            self._take(data[start:end])
            return
        self._contents[self._part] += data[start:end]
        if sum(map(len, self._contents.values())) > FIELD_BYTES:
            raise DomainError(ErrorCode.BODY_TOO_LARGE, f"the fields may have at most {FIELD_BYTES} bytes")

    def _on_end(self) -> None:
        self._ended = True


def boundary_of(content_type: str) -> bytes | None:
    """The boundary of a form, None for a body of any other kind."""
    kind, options = parse_options_header(content_type)
    return options.get(b"boundary") or None if kind == b"multipart/form-data" else None


def _malformed(detail: str) -> DomainError:
    return DomainError(ErrorCode.MALFORMED_REQUEST, detail)
