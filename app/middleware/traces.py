"""A span for each request, below the one that the client names in ``traceparent``. Plain ASGI."""

from __future__ import annotations

from typing import Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.contract.traces import name_span, span, traceparent
from app.paths import own_path

#: What balancers and Prometheus ask for, over and over.
_NOT_TRACED: Final = ("/health/", "/metrics")


class TraceMiddleware:
    """Traces each request but probes by method, route and status; lines that are logged for it name the trace."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI
        if scope["type"] != "http" or own_path(scope).startswith(_NOT_TRACED):
            await self.app(scope, receive, send)
            return
        status = 500

        async def send_noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        method, parent = scope["method"], dict(scope["headers"]).get(b"traceparent", b"").decode("latin-1")
        with span(method, parent or None, request_id=scope["state"]["request_id"]):
            trace = traceparent()
            if trace is not None:
                structlog.contextvars.bind_contextvars(trace_id=trace.split("-")[1])
            try:
                await self.app(scope, receive, send_noting)
            finally:
                route = getattr(scope.get("route"), "path", "none")
                attributes = {"http.request.method": method, "http.route": route, "http.response.status_code": status}
                name_span(f"{method} {route}", **attributes)
