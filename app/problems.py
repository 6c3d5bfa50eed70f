"""Expected failures of the HTTP interface, each a `Problem` with a stable code, and how any failure becomes a problem
document (RFC 9457). What is not expected reaches the client as ``internal`` with its request id and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.contract.messages import Failure
from app.contract.names import ErrorCode
from app.contract.payload import Payload
from app.records.connection import StoreUnavailable

#: Status of each code; every code that is not listed is a 422, a fault in the request's content.
STATUS: Final[Mapping[ErrorCode, int]] = {
    ErrorCode.INVALID_JSON: 400,
    ErrorCode.ROUTE_NOT_FOUND: 404,
    ErrorCode.CONTEXT_NOT_FOUND: 404,
    ErrorCode.JOB_NOT_FOUND: 404,
    ErrorCode.METHOD_NOT_ALLOWED: 405,
    ErrorCode.CONTEXT_NOT_READY: 409,
    ErrorCode.JOB_NOT_CANCELLABLE: 409,
    ErrorCode.FORMAT_UNSUPPORTED: 409,
    ErrorCode.BODY_TOO_LARGE: 413,
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: 415,
    ErrorCode.OVERLOADED: 429,
    ErrorCode.QUOTA: 429,
    ErrorCode.INTERNAL: 500,
    ErrorCode.ARTIFACT_CORRUPT: 500,
    ErrorCode.NO_WORKER: 503,
    ErrorCode.STORE_UNAVAILABLE: 503,
    ErrorCode.BUS_UNAVAILABLE: 503,
    ErrorCode.WORKER_LOST: 503,
    ErrorCode.OUT_OF_MEMORY: 503,
    ErrorCode.DEADLINE_EXCEEDED: 504,
}
RETRY_AFTER_SECONDS: Final = {429: 1, 503: 5}

_FROM_HTTP_STATUS: Final = {
    400: ErrorCode.INVALID_JSON,
    404: ErrorCode.ROUTE_NOT_FOUND,
    405: ErrorCode.METHOD_NOT_ALLOWED,
}
_LONGEST_PARAM: Final = 200


class ProblemDocument(Payload):
    """RFC 9457 problem details, with a stable ``code`` and ``param``, the JSON pointer to what was wrong."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: ErrorCode
    param: str | None
    request_id: str


class Problem(Exception):
    """An expected failure: what went wrong (``code``), in words (``detail``), and where (``param``)."""

    def __init__(self, code: ErrorCode, detail: str, param: str | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.param = param

    @classmethod
    def from_failure(cls, failure: Failure) -> Problem:
        """The problem that a worker reported as data."""
        return cls(failure.code, failure.message, failure.param)


def problem_response(request: Request, problem: Problem) -> JSONResponse:
    """The problem document of ``problem``, with ``Retry-After`` where trying again can help."""
    status = STATUS.get(problem.code, 422)
    document = ProblemDocument(
        type=f"urn:contextune:problem:{problem.code}",
        title=problem.code.replace("_", " ").capitalize(),
        status=status,
        detail=problem.detail,
        instance=request.url.path,
        code=problem.code,
        param=problem.param,
        request_id=request.state.request_id,
    )
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS[status])} if status in RETRY_AFTER_SECONDS else None
    return JSONResponse(document.model_dump(), status, headers, media_type="application/problem+json")


def _pointer(body: Any, location: Sequence[str | int], missing: bool) -> str:
    """JSON pointer (RFC 6901) to the fault. A validator's location also names union members: those are left out."""
    parts: list[str] = []
    for depth, part in enumerate(location):
        present = (isinstance(body, dict) and part in body) or (
            isinstance(body, list) and isinstance(part, int) and part < len(body)
        )
        if not present and not (missing and depth == len(location) - 1):
            break
        parts.append(str(part).replace("~", "~0").replace("/", "~1"))
        body = body[part] if present else None
    return ("/" + "/".join(parts))[:_LONGEST_PARAM] if parts else ""


def _validation_problem(error: RequestValidationError) -> Problem:
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return Problem(ErrorCode.INVALID_JSON, "the body is not valid JSON")
    code = ErrorCode(first["type"]) if first["type"] in set(ErrorCode) else ErrorCode.INVALID_REQUEST
    source, *location = first["loc"]
    missing = first["type"] == "missing"
    if "param" in first.get("ctx", {}):  # a fault that only the whole shows, such as a contradiction
        param = first["ctx"]["param"]
    elif source == "body":
        param = _pointer(error.body, location, missing)
    else:
        param = "".join(f"/{part}" for part in location)
    detail = first["msg"] if first["type"] != "value_error" else "has an invalid value"
    return Problem(code, f"{param or 'request'}: {detail}", param or None)


def install_error_handlers(app: FastAPI) -> None:
    """Make every failure of ``app`` a problem document."""
    log = structlog.get_logger()

    async def on_problem(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Problem)  # noqa: S101 - registered for this type
        return problem_response(request, error)

    async def on_store_unavailable(request: Request, error: Exception) -> JSONResponse:
        log.warning("store_unavailable", reason=str(error))
        return problem_response(request, Problem(ErrorCode.STORE_UNAVAILABLE, "the store does not answer"))

    async def on_invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this type
        return problem_response(request, _validation_problem(error))

    async def on_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for this type
        code = _FROM_HTTP_STATUS.get(error.status_code, ErrorCode.INVALID_REQUEST)
        response = problem_response(request, Problem(code, str(error.detail)))
        response.headers.update(error.headers or {})
        return response

    async def on_unexpected(request: Request, error: Exception) -> JSONResponse:
        request_id = request.state.request_id
        log.error("internal_error", path=request.url.path, request_id=request_id, exc_info=error)
        response = problem_response(request, Problem(ErrorCode.INTERNAL, "an unexpected error; quote the request id"))
        response.headers["X-Request-Id"] = request_id  # this answer does not pass through the middleware
        return response

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(StoreUnavailable, on_store_unavailable)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_unexpected)
