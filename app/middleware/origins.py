"""Which web pages may change something here: forms and bodyless requests need no permission of CORS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.contract.names import ErrorCode
from app.errors import DomainError
from app.problems import problem_response

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110, 9.2.1
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}


class OriginMiddleware:
    """Refuses a request that changes something and comes from another site with 403.

    ``Origin`` must be the service's own or one of ``allowed``, and ``Sec-Fetch-Site`` not ``cross-site``. A client that
    is no browser sends neither. Schemes are not compared: a proxy that ends TLS need not tell.
    """

    def __init__(self, app: ASGIApp, allowed: Sequence[str]) -> None:
        self.app = app
        self._allowed = frozenset(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI
        request = Request(scope) if scope["type"] == "http" else None
        if request is None or request.method in _SAFE_METHODS or self._allows(request):
            await self.app(scope, receive, send)
            return
        detail = (
            "a web page of another site may not change anything here; CONTEXTUNE_ALLOWED_ORIGINS names those that may"
        )
        await problem_response(request, DomainError(ErrorCode.ORIGIN_NOT_ALLOWED, detail))(scope, receive, send)

    def _allows(self, request: Request) -> bool:
        origin = request.headers.get("origin")
        if origin in self._allowed:
            return True
        if request.headers.get("sec-fetch-site") == "cross-site":
            return False
        return origin is None or _same_host(origin, request.headers.get("host", ""))


def _same_host(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin.lower())
    except ValueError:
        return False
    port = _DEFAULT_PORTS.get(parts.scheme, "")
    return bool(port) and parts.netloc.removesuffix(port) == host.lower().removesuffix(port)
