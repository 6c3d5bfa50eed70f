"""Request ids, one line in the log for each request, and no caching of answers."""

from __future__ import annotations

import re
import time
from typing import Final

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.compat.doors import request_id_headers
from app.paths import own_path
from app.records.connection import new_id

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")


class RequestIdMiddleware:
    """Gives each request an id (the client's own if it sent a sane one), repeats it in the answer, logs the request.

    Every line that is logged for a request has its id. None has a body, a query string or a path, which hold users'
    texts and names; a line names the route.
    A JSON answer may hold them too, and is not to be stored by a cache.
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
                _complete(MutableHeaders(scope=message), own_path(scope), request_id)
            await send(message)

        structlog.contextvars.clear_contextvars()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, send_with_id)
            finally:
                milliseconds = round(1000 * (time.perf_counter() - started), 1)
                route = getattr(scope.get("route"), "path", "none")
                structlog.get_logger().info(
                    "request", method=scope["method"], route=route, status=status, ms=milliseconds
                )


def _complete(headers: MutableHeaders, path: str, request_id: str) -> None:
    for name in request_id_headers(path):
        headers[name] = request_id
    if "json" in headers.get("content-type", ""):
        headers.setdefault("Cache-Control", "no-store")
