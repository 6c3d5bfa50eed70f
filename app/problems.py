"""Every failure of the HTTP interface as a problem document (RFC 9457): the one place that knows a failure's status.

Expected failures are `DomainError` and the exceptions of `_KNOWN`. What is not expected reaches the client as
``internal`` with its request id and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import quote

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match, Mount

from app.classification.admission import Overloaded
from app.classification.bus import BusUnavailable, DeadlineExceeded, ModelUnsupported, NoWorker, Refused, WorkerLost
from app.compat.doors import door_error, longest_retry, request_id_headers
from app.contract.names import ErrorCode
from app.contract.payload import Payload
from app.errors import DomainError
from app.paths import own_path
from app.records.batches import ContextGone
from app.records.bodies import BodyCorrupt
from app.records.connection import StoreUnavailable
from app.records.contexts import MAX_METADATA, QueueFull, QuotaReached, TenantGone, TooMuchMetadata
from app.records.files import ArtifactsUnavailable, DiskFull
from app.records.idempotency import ClaimLost
from app.records.lists import UnknownCursor
from app.records.rows import NewerFormat
from app.validation import fault_of

#: Status of each code; every code that is not listed is a 422, a fault in the request's content.
STATUS: Final[Mapping[ErrorCode, int]] = {
    ErrorCode.INVALID_JSON: 400,
    ErrorCode.MALFORMED_REQUEST: 400,
    ErrorCode.KEY_REQUIRED: 401,
    ErrorCode.KEY_INVALID: 401,
    ErrorCode.ORIGIN_NOT_ALLOWED: 403,
    ErrorCode.WEBHOOKS_DISABLED: 403,
    ErrorCode.INSUFFICIENT_SCOPE: 403,
    ErrorCode.ROUTE_NOT_FOUND: 404,
    ErrorCode.CONTEXT_NOT_FOUND: 404,
    ErrorCode.JOB_NOT_FOUND: 404,
    ErrorCode.MODEL_NOT_FOUND: 404,
    ErrorCode.TENANT_NOT_FOUND: 404,
    ErrorCode.METHOD_NOT_ALLOWED: 405,
    ErrorCode.REQUEST_TIMEOUT: 408,
    ErrorCode.ALIAS_NOT_FOUND: 404,
    ErrorCode.CONTEXT_NOT_READY: 409,
    ErrorCode.PROMOTION_REFUSED: 409,
    ErrorCode.ALIAS_CHANGED: 412,
    ErrorCode.CONTEXT_FAILED: 409,
    ErrorCode.CONTEXT_IN_USE: 409,
    ErrorCode.MODEL_CHANGED: 409,
    ErrorCode.JOB_NOT_CANCELLABLE: 409,
    ErrorCode.JOB_NOT_TERMINAL: 409,
    ErrorCode.IDEMPOTENCY_IN_PROGRESS: 409,
    ErrorCode.TENANT_DELETING: 409,
    ErrorCode.DELETED: 410,
    ErrorCode.FORMAT_UNSUPPORTED: 409,
    ErrorCode.BODY_TOO_LARGE: 413,
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: 415,
    ErrorCode.HOST_NOT_ALLOWED: 421,
    ErrorCode.OVERLOADED: 429,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.QUOTA: 429,
    ErrorCode.INTERNAL: 500,
    ErrorCode.ARTIFACT_CORRUPT: 500,
    ErrorCode.SHUTTING_DOWN: 503,
    ErrorCode.NO_WORKER: 503,
    ErrorCode.EXAMPLES_NEEDED: 503,
    ErrorCode.WARMING_UP: 503,
    ErrorCode.STORE_UNAVAILABLE: 503,
    ErrorCode.ARTIFACTS_UNAVAILABLE: 503,
    ErrorCode.BUS_UNAVAILABLE: 503,
    ErrorCode.WORKER_LOST: 503,
    ErrorCode.OUT_OF_MEMORY: 503,
    ErrorCode.DEADLINE_EXCEEDED: 504,
    ErrorCode.DISK_FULL: 507,
}
UNPROCESSABLE: Final = 422

#: Seconds until another try, where the failure itself does not know them; a status that is not listed tells none.
RETRY_AFTER_SECONDS: Final[Mapping[int, float]] = {429: 1, 503: 5, 507: 30}
#: The same for a quota: room is made by whoever deletes something, or raises the tenant's limits.
QUOTA_RETRY_SECONDS: Final = 60.0

#: Exceptions of store, bus and batcher.
_KNOWN: Final[Mapping[type[Exception], tuple[ErrorCode, str, str | None]]] = {
    StoreUnavailable: (ErrorCode.STORE_UNAVAILABLE, "the store does not answer", None),
    TooMuchMetadata: (ErrorCode.INVALID_REQUEST, f"a context has {MAX_METADATA} keys of metadata at most", "/metadata"),
    ClaimLost: (ErrorCode.IDEMPOTENCY_IN_PROGRESS, "another request with this idempotency key is at work", None),
    UnknownCursor: (ErrorCode.INVALID_REQUEST, "`after` is not a cursor of a list", "/after"),
    DiskFull: (ErrorCode.DISK_FULL, "there is no room on disk for a body of this size", None),
    ContextGone: (ErrorCode.CONTEXT_NOT_FOUND, "there is no such context", None),
    ArtifactsUnavailable: (
        ErrorCode.ARTIFACTS_UNAVAILABLE,
        "the file system of the artifacts did not do what it was asked",
        None,
    ),
    BodyCorrupt: (ErrorCode.ARTIFACT_CORRUPT, "a file of the context is missing or damaged", None),
    BusUnavailable: (ErrorCode.BUS_UNAVAILABLE, "the bus does not answer", None),
    NoWorker: (ErrorCode.NO_WORKER, "no live worker serves this model", None),
    WorkerLost: (ErrorCode.WORKER_LOST, "the workers died over this request", None),
    DeadlineExceeded: (ErrorCode.DEADLINE_EXCEEDED, "no answer within the deadline", None),
    QueueFull: (ErrorCode.OVERLOADED, "too many jobs are queued", None),
    TenantGone: (ErrorCode.KEY_INVALID, "the tenant of this key is being deleted", None),
    Overloaded: (ErrorCode.OVERLOADED, "too many inputs wait for this model", None),
}

#: Codes of the failures that Starlette and FastAPI raise by status; another status keeps its number all the same.
_FROM_HTTP_STATUS: Final[Mapping[int, ErrorCode]] = {
    400: ErrorCode.MALFORMED_REQUEST,
    404: ErrorCode.ROUTE_NOT_FOUND,
    405: ErrorCode.METHOD_NOT_ALLOWED,
}
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
#: What may stand in a path as it is (RFC 3986, 3.3).
_PATH_CHARACTERS: Final = "/:@!$&'()*+,;=~"
#: What RFC 6750, 3.1, calls each refusal.
_CHALLENGES: Final[Mapping[ErrorCode, str]] = {
    ErrorCode.KEY_REQUIRED: "",
    ErrorCode.KEY_INVALID: ', error="invalid_token"',
    ErrorCode.INSUFFICIENT_SCOPE: ', error="insufficient_scope"',
}
_MEDIA_TYPE: Final = "application/problem+json"


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


def problem_document(error: DomainError, path: str, request_id: str, status: int | None = None) -> ProblemDocument:
    """The problem document of ``error`` for a request to ``path``. ``status`` None is that of the error's code."""
    return ProblemDocument(
        type=f"urn:contextune:problem:{error.code}",
        title=error.code.replace("_", " ").capitalize(),
        status=status or STATUS.get(error.code, UNPROCESSABLE),
        detail=error.detail,
        instance=quote(path, _PATH_CHARACTERS),
        code=error.code,
        param=error.param,
        request_id=request_id,
    )


def problem_response(request: Request, error: DomainError, status: int | None = None) -> JSONResponse:
    """The answer to a request that failed, with ``Retry-After`` where another try can help."""
    document = problem_document(error, request.scope["path"], request.state.request_id, status)
    door = str(getattr(request.state, "door", own_path(request.scope)))
    headers = _retry_headers(error, document.status, longest_retry(door))
    if error.code in _CHALLENGES:
        headers["WWW-Authenticate"] = f'Bearer realm="contextune"{_CHALLENGES[error.code]}'
    if error.code == ErrorCode.REQUEST_TIMEOUT:
        headers["Connection"] = "close"  # the rest of the body is not waited for
    if (shaped := door_error(door, document.model_dump())) is not None:
        body, status, more = shaped
        return JSONResponse(body, status, headers | more)
    return JSONResponse(document.model_dump(), document.status, headers, media_type=_MEDIA_TYPE)


def _retry_headers(error: DomainError, status: int, longest: float) -> dict[str, str]:
    seconds = error.retry_after
    if seconds is None:
        seconds = QUOTA_RETRY_SECONDS if error.code == ErrorCode.QUOTA else RETRY_AFTER_SECONDS.get(status)
    if seconds is None:
        return {}
    seconds = min(seconds, longest)
    return {"Retry-After": str(max(1, math.ceil(seconds))), "retry-after-ms": str(math.ceil(seconds * 1000))}


def as_domain_error(error: Exception) -> DomainError | None:
    """``error`` as a failure with a code, None for one that is not expected."""
    if isinstance(error, DomainError):
        return error
    if isinstance(error, Refused):
        return DomainError.from_failure(error.failure)
    if isinstance(error, ModelUnsupported):
        return DomainError(ErrorCode.MODEL_UNSUPPORTED, str(error), "/model")
    if isinstance(error, QuotaReached):
        wait = RETRY_AFTER_SECONDS[STATUS[ErrorCode.QUOTA]] if error.passes else None
        return DomainError(ErrorCode.QUOTA, str(error), retry_after=wait)
    if isinstance(error, NewerFormat):
        return DomainError(ErrorCode.FORMAT_UNSUPPORTED, str(error))
    known = next((what for kind, what in _KNOWN.items() if isinstance(error, kind)), None)
    return DomainError(*known, retry_after=getattr(error, "retry_after", None)) if known else None


def install_error_handlers(app: FastAPI) -> None:
    """Make every failure of ``app`` a problem document."""
    for kind in (DomainError, Refused, ModelUnsupported, QuotaReached, NewerFormat, *_KNOWN):
        app.add_exception_handler(kind, _on_expected)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_unexpected)


async def _on_expected(request: Request, error: Exception) -> JSONResponse:
    expected = as_domain_error(error)
    assert expected is not None  # noqa: S101 - registered for these types
    if isinstance(error, StoreUnavailable):
        structlog.get_logger().warning("store_unavailable", reason=str(error))
    return problem_response(request, expected)


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this type
    return problem_response(request, fault_of(error))


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this type
    status = error.status_code
    code = _FROM_HTTP_STATUS.get(status, ErrorCode.INTERNAL if status >= 500 else ErrorCode.INVALID_REQUEST)
    response = problem_response(request, DomainError(code, str(error.detail)), status)
    response.headers.update(error.headers or {})
    if allowed := ", ".join(_allowed_methods(request) if status == 405 else ()):
        response.headers["Allow"] = allowed
    return response


async def _on_unexpected(request: Request, error: Exception) -> JSONResponse:
    request_id, route = request.state.request_id, getattr(request.scope.get("route"), "path", "none")
    structlog.get_logger().error("internal_error", route=route, request_id=request_id, exc_info=error)
    response = problem_response(request, DomainError(ErrorCode.INTERNAL, "an unexpected error; quote the request id"))
    for name in request_id_headers(own_path(request.scope)):
        response.headers[name] = request_id  # this answer does not pass through the middleware
    return response


def _allowed_methods(request: Request) -> Iterator[str]:
    """Methods that some route takes for the request's path. Each route knows only its own; HEAD is answered as GET."""
    for method in _METHODS:
        matched = {**request.scope, "method": "GET" if method == "HEAD" else method}
        for route in request.app.routes:
            if isinstance(route, Mount) and method not in ("GET", "HEAD"):  # files
                continue
            if route.matches(matched)[0] == Match.FULL:
                yield method
                break
