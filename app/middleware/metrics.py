"""Counts requests by route and status, and how long they take. Plain ASGI."""

from __future__ import annotations

import time
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.telemetry.metrics import Metrics

#: The route of a request that none matches: its path is the client's to choose, and must be no label.
_NO_ROUTE: Final = "none"
#: A method may be any word of the client's too (RFC 9110, 9.1); what others are called is OpenTelemetry's convention.
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_OTHER_METHOD: Final = "_OTHER"


class MetricsMiddleware:
    """Notes each request in the metrics that the application's state holds."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def send_noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_noting)
        finally:
            metrics: Metrics = scope["app"].state.gateway.metrics
            route = getattr(scope.get("route"), "path", _NO_ROUTE).removeprefix("/v1")
            method = scope["method"] if scope["method"] in _METHODS else _OTHER_METHOD
            metrics.requests.labels(method, route, str(status)).inc()
            metrics.request_seconds.labels(route).observe(time.perf_counter() - started)
