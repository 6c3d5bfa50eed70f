"""How the problem documents of the routes appear in the OpenAPI description."""

from __future__ import annotations

from typing import Any

from app.contract.names import ErrorCode
from app.errors import STATUS, ProblemDocument


def problems(*codes: ErrorCode) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses for the given codes, and for those that any route may give."""
    by_status: dict[int | str, list[str]] = {}
    for code in (*codes, ErrorCode.INVALID_REQUEST, ErrorCode.STORE_UNAVAILABLE):
        by_status.setdefault(STATUS.get(code, 422), []).append(code)
    return {
        status: {
            "description": "Problem: " + ", ".join(names),
            "content": {"application/problem+json": {"schema": ProblemDocument.model_json_schema()}},
        }
        for status, names in by_status.items()
    }
