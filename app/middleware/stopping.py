"""What a request is answered with that is cut off because the process stops."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.contract.names import ErrorCode
from app.errors import DomainError
from app.problems import problem_response


class StoppingMiddleware:
    """Answers a request with 503 when the server cancels it, as it does once the time to stop in has passed."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI
        begun = scope["type"] != "http"

        async def note(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, note)
        except asyncio.CancelledError:
            if begun:
                raise
            error = DomainError(ErrorCode.SHUTTING_DOWN, "the service stops; try again")
            await problem_response(Request(scope), error)(scope, receive, send)
