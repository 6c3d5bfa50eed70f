"""What is checked of a door's body before it is read in its vendor's shape."""

from __future__ import annotations

import math
from typing import Any, Final, LiteralString

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from app.contract.names import ErrorCode
from app.contract.payload import Payload
from app.contract.texts import checked_characters

#: Objects and lists within each other, at most.
MAX_DEPTH: Final = 100

#: The keys that lead to a part, the last one first.
_Place = tuple["_Place", str | int] | None


class DoorBody(Payload):
    """A body of finite numbers and Unicode texts, nested `MAX_DEPTH` deep at most, also where any JSON may stand."""

    @model_validator(mode="before")
    @classmethod
    def _sound(cls, content: Any) -> Any:
        _check(content)
        return content


def _check(content: Any) -> None:
    left: list[tuple[Any, _Place, int]] = [([content], None, 0)]
    while left:
        container, place, depth = left.pop()
        if depth > MAX_DEPTH:
            raise _fault(ErrorCode.INVALID_REQUEST, "is nested more than {most} levels deep", place)
        for key, part in container.items() if isinstance(container, dict) else enumerate(container):
            if isinstance(key, str):
                _check_text(key, place)
            if isinstance(part, dict | list):
                left.append((part, (place, key), depth + 1))
            elif isinstance(part, str):
                _check_text(part, (place, key))
            elif isinstance(part, float) and not math.isfinite(part):
                raise _fault(ErrorCode.INVALID_REQUEST, "must be a finite number", (place, key))


def _check_text(text: str, place: _Place) -> None:
    try:
        checked_characters(text)
    except PydanticCustomError as error:
        raise _fault(ErrorCode(error.type), error.message_template, place) from None


def _fault(code: ErrorCode, message: LiteralString, place: _Place) -> PydanticCustomError:
    keys: list[str | int] = []
    while place is not None:
        place, key = place
        keys.append(key)
    # The first key is that of the list around the body.
    pointer = "".join(f"/{str(key).replace('~', '~0').replace('/', '~1')}" for key in keys[-2::-1])
    return PydanticCustomError(code, message, {"param": pointer, "most": MAX_DEPTH})
