"""Receiving the file of a batch: from the body as it arrives to an upload of JSON lines. Memory is bounded.

Blocking: `begin`, `feed`, `end` and `discard` belong in a thread, one after the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from python_multipart.multipart import parse_options_header

from app.batches.lines import JsonLines, lines_of_csv
from app.contract.batches import MAX_BATCH_BYTES, MAX_BATCH_LINES
from app.contract.names import ErrorCode
from app.errors import DomainError
from app.forms import FormFile, boundary_of
from app.records.files import open_to_read, unavailable
from app.records.uploads import Upload

_JSONL: Final = (
    "application/jsonl",
    "application/x-jsonl",
    "application/jsonlines",
    "application/x-ndjson",
    "application/ndjson",
)
_CSV: Final = ("text/csv",)
#: What a part of a form says where its sender knows nothing: then its name decides.
_ANYTHING: Final = ("", "application/octet-stream", "text/plain")
_BY_NAME: Final = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}


class Receiver:
    """The body of one request of this content type; ``upload`` begins a file. `discard` what is not kept.

    The file may have ``most_lines`` and ``most_bytes``.
    """

    def __init__(
        self,
        content_type: str,
        upload: Callable[[], Upload],
        most_lines: int = MAX_BATCH_LINES,
        most_bytes: int = MAX_BATCH_BYTES,
    ) -> None:
        self._new_upload = upload
        self._most_lines = most_lines
        self._most_bytes = most_bytes
        self._uploads: list[Upload] = []
        self._hash = hashlib.sha256()
        self._size = 0
        self._lines: JsonLines | None = None
        self._form: FormFile | None = None
        self._kind = ""
        self._content_type = content_type

    @property
    def content(self) -> str:
        """What tells this content from any other: what the file is, and its hash."""
        return f"{self._kind} {self._hash.hexdigest()}"

    def begin(self) -> None:
        """Take note of what will arrive. Raises what `feed` raises."""
        boundary = boundary_of(self._content_type)
        if boundary is not None:
            self._form = FormFile(boundary, self._begin, self._take)
        else:
            self._begin(self._content_type, "")

    def feed(self, data: bytes) -> None:
        """Take what has arrived. Raises `DomainError`, `ArtifactsUnavailable` and `StoreUnavailable`."""
        if self._form is not None:
            self._form.feed(data)
        else:
            self._take(data)

    def end(self) -> tuple[Upload, int]:
        """The lines of the file, and how many they are. Raises what `feed` raises."""
        if self._form is not None:
            self._form.end()
        upload = self._uploads[0]
        if self._lines is not None:
            self._lines.end()
            return upload, self._lines.count
        upload.close()
        lines = self._upload()
        with unavailable():
            file = open_to_read(upload.url)
        with file:
            count = lines_of_csv(file, lines.write, self._most_lines)
        upload.discard()
        return lines, count

    def discard(self) -> None:
        """Remove what was written and nothing refers to."""
        for upload in self._uploads:
            upload.discard()

    def _begin(self, content_type: str, name: str) -> None:
        self._kind = _kind_of(content_type, name)
        upload = self._upload()
        if self._kind == "jsonl":
            self._lines = JsonLines(upload.write, self._most_lines)

    def _upload(self) -> Upload:
        self._uploads.append(self._new_upload())
        return self._uploads[-1]

    def _take(self, data: bytes) -> None:
        self._hash.update(data)
        self._size += len(data)
        if self._size > self._most_bytes:
            raise DomainError(ErrorCode.BODY_TOO_LARGE, f"the file may have at most {self._most_bytes} bytes")
        (self._lines.feed if self._lines is not None else self._uploads[0].write)(data)


def _kind_of(content_type: str, name: str) -> str:
    """``jsonl`` or ``csv``. Raises `DomainError` for anything else."""
    kind, options = parse_options_header(content_type)
    text = kind.decode("latin-1")
    charset = options.get(b"charset", b"utf-8").lower()
    if charset not in (b"utf-8", b"utf8", b"us-ascii"):
        raise DomainError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "the file must be UTF-8")
    if text in _JSONL:
        return "jsonl"
    if text in _CSV:
        return "csv"
    suffix = name[name.rfind(".") :].lower() if name and text in _ANYTHING else ""
    if suffix in _BY_NAME:
        return _BY_NAME[suffix]
    detail = "send a file of texts as application/jsonl, as text/csv, or as the part file of multipart/form-data"
    raise DomainError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, detail)
