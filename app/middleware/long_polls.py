"""Requests that wait for something (``?wait=``): thousands that come or end at once let all others by."""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PARAMETER: Final = "wait"


class LongPollMiddleware:
    """Lets requests with ``?wait=`` begin one after the other, and likewise their answers.

    Between two of them the event loop serves everybody else. Plain ASGI.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI
        if scope["type"] != "http" or _PARAMETER not in parse_qs(scope["query_string"].decode("latin-1")):
            await self.app(scope, receive, send)
            return

        async def send_in_turn(message: Message) -> None:
            if message["type"] == "http.response.start":
                await self._let_others_by()
            await send(message)

        await self._let_others_by()
        await self.app(scope, receive, send_in_turn)

    async def _let_others_by(self) -> None:
        async with self._turn:
            await asyncio.sleep(0)
