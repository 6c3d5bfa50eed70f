"""Which door a path is, and how failures look there: the path alone says whose errors the client reads."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from app.compat import cohere, openai, systemone

#: The headers of the request id: ours, and at doors what System One's clients read.
_REQUEST_ID: Final = ("X-Request-Id",)
_DOOR_REQUEST_ID: Final = (*_REQUEST_ID, "x-typesafe-request-id")

Shape = Callable[[dict[str, Any]], dict[str, Any]]

#: A door's wait, on whatever status, is at most this long: clients give up on longer ones.
LONGEST_RETRY_SECONDS: Final = 10.0
#: Statuses that Cohere's client tries again whatever they mean.
_CONFLICT: Final = 409
_UNPROCESSABLE: Final = 422
#: The code of a body that is no JSON; System One's clients expect a list of faults for it.
_INVALID_JSON: Final = "invalid_json"
#: Failures that do not pass by waiting.
_LASTING: Final = frozenset({"context_failed", "model_changed"})

_SHAPES: Final[tuple[tuple[str, Shape], ...]] = (
    ("/compat/cohere/", cohere.error),
    ("/v1/decisions", openai.error),
    ("/decisions", openai.error),
    ("/v1/models", openai.error),
    ("/v1/systemone", systemone.error),
    ("/systemone", systemone.error),
)


def request_id_headers(path: str) -> tuple[str, ...]:
    """The headers in which an answer at ``path`` tells the request id."""
    return _REQUEST_ID if _shape(path) is None else _DOOR_REQUEST_ID


def longest_retry(path: str) -> float:
    """The longest wait (seconds) that a failure at ``path`` may ask for."""
    return math.inf if _shape(path) is None else LONGEST_RETRY_SECONDS


def door_error(path: str, document: dict[str, Any]) -> tuple[dict[str, Any], int, dict[str, str]] | None:
    """The body, the status and more headers of a failure at a door; None where the path is no door.

    ``document`` is the problem document (RFC 9457) of the failure.
    """
    shape = _shape(path)
    if shape is None:
        return None
    status = document["status"]
    if shape is cohere.error and status == _CONFLICT:
        status = _UNPROCESSABLE  # its client tries every 409 again
    if shape is systemone.error and document["code"] == _INVALID_JSON:
        status = _UNPROCESSABLE
    headers = {"x-should-retry": "false"} if document["code"] in _LASTING else {}
    return shape({**document, "status": status}), status, headers


def _shape(path: str) -> Shape | None:
    return next((shape for prefix, shape in _SHAPES if path.startswith(prefix)), None)
