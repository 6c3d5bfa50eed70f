"""The lines of a batch, in groups that are computed together. Knows bytes and what may stand in them, no model.

Where a group begins and ends follows from the lines alone: what is computed of a line does not depend on when a batch
was interrupted, to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from app.contract.batches import MAX_LINE_BYTES, BatchLine, LineId
from app.contract.names import ErrorCode


@dataclass(frozen=True)
class Fault:
    """Why a line cannot be answered, and its id where that could be read."""

    code: ErrorCode
    message: str
    line_id: str | None = None


@dataclass(frozen=True)
class Group:
    """Lines from the index ``first`` on; the input goes on at the byte ``offset`` behind them."""

    first: int
    offset: int
    lines: tuple[bytes, ...]

    @property
    def next(self) -> int:
        """Index of the line behind the group."""
        return self.first + len(self.lines)


def groups(file: Any, first: int, offset: int, most_lines: int, most_bytes: int) -> Iterator[Group]:
    """The groups of a binary file whose line ``first`` begins at ``offset``, where a group before ended."""
    file.seek(offset)
    lines: list[bytes] = []
    size = 0
    # A line has a byte more than `MAX_LINE_BYTES` at most, and its end.
    while line := file.readline(MAX_LINE_BYTES + 2):
        lines.append(line)
        size += len(line)
        if len(lines) == most_lines or size >= most_bytes:
            offset += size
            yield Group(first, offset, tuple(lines))
            first, lines, size = first + len(lines), [], 0
    if lines:
        yield Group(first, offset + size, tuple(lines))


def parse(line: bytes) -> BatchLine | Fault:
    """What a line says, or why it cannot be read."""
    if len(line.rstrip(b"\r\n")) > MAX_LINE_BYTES:
        return Fault(ErrorCode.TEXT_TOO_LONG, f"the line has more than {MAX_LINE_BYTES} bytes")
    try:
        return BatchLine.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    code = ErrorCode(first["type"]) if first["type"] in set(ErrorCode) else ErrorCode.INVALID_REQUEST
    if first["type"] == "json_invalid":
        return Fault(ErrorCode.INVALID_JSON, "the line is not valid JSON")
    if first["type"] == "extra_forbidden":
        return Fault(code, "the line has another field than text, id and label", _id_of(line))
    where = ".".join(str(part) for part in first["loc"])
    message = f"{where}: {first['msg']}" if where in BatchLine.model_fields else first["msg"]
    return Fault(code, message, _id_of(line))


class _Identified(BaseModel):
    """The id of a line, whatever else is wrong with it."""

    model_config = ConfigDict(strict=True)

    id: LineId = None


def _id_of(line: bytes) -> str | None:
    try:
        return _Identified.model_validate_json(line).id
    except ValidationError:
        return None
