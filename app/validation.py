"""What is wrong with a request, in words of JSON, by what pydantic says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi.exceptions import RequestValidationError

from app.contract.names import ErrorCode
from app.errors import DomainError

_LONGEST_PARAM: Final = 200
#: What pydantic says of JSON in words of Python.
_TYPES: Final[Mapping[str, str]] = {
    "tuple_type": "must be an array",
    "list_type": "must be an array",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "string_type": "must be a string",
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
}
#: Faults among which those of one union are looked for: a body may have thousands.
MOST_FAULTS: Final = 16
_SHOULD: Final = "Input should be "
_MUST: Final = "must be "


def fault_of(error: RequestValidationError) -> DomainError:
    """The first fault, with a JSON pointer to it, and all that its place might have held instead."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return DomainError(ErrorCode.INVALID_JSON, "the body is not valid JSON")
    code = ErrorCode(first["type"]) if first["type"] in set(ErrorCode) else ErrorCode.INVALID_REQUEST
    param = _param(first, error.body)
    # What a union refuses it refuses once for each member.
    others = [_said(one) for one in error.errors()[1:MOST_FAULTS] if _param(one, error.body) == param]
    said = _said(first)
    if said.startswith(_MUST):
        more = dict.fromkeys(one.removeprefix(_MUST) for one in others if one.startswith(_MUST) and one != said)
        said = " or ".join([said, *more])
    return DomainError(code, f"{param or 'request'}: {said}", param or None)


def _said(fault: Mapping[str, Any]) -> str:
    kind, context = fault["type"], fault.get("ctx", {})
    if kind == "value_error":
        return "has an invalid value"
    if kind == "union_tag_invalid":  # whose message repeats the value
        return f"must be one of {context['expected_tags']}"
    if kind == "too_short":
        return _counted(context["min_length"], "at least", context["actual_length"])
    if kind == "too_long":
        return _counted(context["max_length"], "at most", context["actual_length"])
    said: str = _TYPES.get(kind, fault["msg"])
    return f"{_MUST}{said.removeprefix(_SHOULD)}" if said.startswith(_SHOULD) else said


def _counted(bound: int, side: str, actual: int) -> str:
    return f"must have {bound} {'item' if bound == 1 else 'items'} {side}, and has {actual}"


def _param(fault: Mapping[str, Any], body: Any) -> str:
    """The JSON pointer to a fault; of a query or a path its name."""
    source, *location = fault["loc"]
    if "param" in fault.get("ctx", {}):  # a fault that only the whole shows, such as a contradiction
        param: str = fault["ctx"]["param"][:_LONGEST_PARAM]
        return param
    if fault["type"] == "union_tag_invalid":
        location.append(fault["ctx"]["discriminator"].strip("'"))
    if source == "body":
        return _pointer(body, location, fault["type"] == "missing")
    return "".join(f"/{part}" for part in location)


def _pointer(body: Any, location: Sequence[str | int], missing: bool) -> str:
    """JSON pointer (RFC 6901) to the fault. A validator's location also names union members: those are left out."""
    parts: list[str] = []
    for depth, part in enumerate(location):
        present = (isinstance(body, dict) and part in body) or (
            isinstance(body, list) and isinstance(part, int) and part < len(body)
        )
        last = depth == len(location) - 1
        if present or (missing and last):
            parts.append(str(part).replace("~", "~0").replace("/", "~1"))
            body = body[part] if present else None
    return ("/" + "/".join(parts))[:_LONGEST_PARAM] if parts else ""
