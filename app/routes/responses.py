"""How the problem documents of the routes appear in the OpenAPI description."""

from __future__ import annotations

from typing import Any, Final

from pydantic.json_schema import models_json_schema

from app.contract.names import ErrorCode
from app.problems import STATUS, ProblemDocument

_COMPONENT: Final = "#/components/schemas/{model}"


def problem_schemas() -> dict[str, Any]:
    """The components that the responses of `problems` refer to, by name."""
    _, schema = models_json_schema([(ProblemDocument, "serialization")], ref_template=_COMPONENT)
    components: dict[str, Any] = schema["$defs"]
    return components


def problems(*codes: ErrorCode) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses for the given codes, and for those that any route may give."""
    by_status: dict[int | str, list[str]] = {}
    for code in (*codes, ErrorCode.INVALID_REQUEST, ErrorCode.STORE_UNAVAILABLE):
        by_status.setdefault(STATUS.get(code, 422), []).append(code)
    return {
        status: {
            "description": "Problem: " + ", ".join(names),
            "content": {"application/problem+json": {"schema": {"$ref": _COMPONENT.format(model="ProblemDocument")}}},
        }
        for status, names in by_status.items()
    }
