"""What every request passes through: a request id, a bound on the body, and one line in the log. Plain ASGI."""

from __future__ import annotations

import re
import time
from typing import Final

import structlog
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.contract.names import ErrorCode
from app.problems import Problem, problem_response
from app.records.connection import new_id

MAX_BODY_BYTES: Final = 8 * 1024 * 1024
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")


class RequestIdMiddleware:
    """Gives each request an id (the client's own if it sent a sane one), repeats it in the answer, logs the request.

    The log has no body and no query string, since both may hold users' texts.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sent = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        request_id = sent if _REQUEST_ID.fullmatch(sent) else new_id("req")
        scope.setdefault("state", {})["request_id"] = request_id
        started, status = time.perf_counter(), 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        structlog.contextvars.bind_contextvars(request_id=request_id)  # also for what is asked of workers
        try:
            await self.app(scope, receive, send_with_id)
        finally:
            milliseconds = round(1000 * (time.perf_counter() - started), 1)
            structlog.get_logger().info(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                ms=milliseconds,
                request_id=request_id,
            )


class BodyLimitMiddleware:
    """Refuses a body over `MAX_BODY_BYTES` with 413 and one that is not JSON by its content type with 415."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        body, problem = await _read_body(request, receive)
        if problem is not None:
            await problem_response(request, problem)(scope, receive, send)
            return

        async def replay() -> Message:
            nonlocal body
            if body is None:
                return await receive()
            message, body = {"type": "http.request", "body": body, "more_body": False}, None
            return message

        await self.app(scope, replay, send)


async def _read_body(request: Request, receive: Receive) -> tuple[bytes | None, Problem | None]:
    too_large = Problem(ErrorCode.BODY_TOO_LARGE, f"the body may have at most {MAX_BODY_BYTES} bytes")
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > MAX_BODY_BYTES:
        return None, too_large
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            return None, too_large
        chunks.append(chunk)
        more = message.get("more_body", False)
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if size and content_type != "application/json" and not content_type.endswith("+json"):
        return None, Problem(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "send the body as application/json")
    return b"".join(chunks), None
