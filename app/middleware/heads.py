"""HEAD where GET is answered: no route says so by itself."""

from __future__ import annotations

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class _Told(OSError):
    """All that a HEAD asks for was sent. What streams ends by it, as if the client had gone."""


class HeadMiddleware:
    """Answers HEAD as GET, without the content (RFC 9110, 9.3.2). Whoever stands around it sees a HEAD."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        told, asked = False, {**scope, "method": "GET"}

        async def send_without_content(message: Message) -> None:
            nonlocal told
            if told:
                raise _Told
            told = message["type"] == "http.response.body"
            await send({"type": "http.response.body"} if told else message)

        try:
            await self.app(asked, receive, send_without_content)
        except (_Told, ClientDisconnect):
            if not told:
                raise
        finally:
            scope.update(asked, method="HEAD")  # the route, for logs and metrics
