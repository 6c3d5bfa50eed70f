"""Forms with a file (RFC 7578), made while they are sent."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from contextune.protocol.call import Upload, json_bytes

_CHUNK_BYTES: Final = 64 * 1024


def form_with_file(fields: Mapping[str, Any], path: Path, filename: str, content_type: str) -> Upload:
    """The fields, texts as they are and all else as JSON, and then the file as ``file``."""
    boundary = uuid.uuid4().hex

    def chunks() -> Iterator[bytes]:
        for name, value in fields.items():
            content = value.encode() if isinstance(value, str) else json_bytes(value)
            yield _head(boundary, f'name="{name}"') + content + b"\r\n"
        yield _head(boundary, f'name="file"; filename="{filename}"', content_type)
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
        yield f"\r\n--{boundary}--\r\n".encode()

    return Upload(chunks, f"multipart/form-data; boundary={boundary}")


def _head(boundary: str, disposition: str, content_type: str | None = None) -> bytes:
    kind = f"content-type: {content_type}\r\n" if content_type else ""
    return f"--{boundary}\r\ncontent-disposition: form-data; {disposition}\r\n{kind}\r\n".encode()
