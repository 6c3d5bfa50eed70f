"""Requests to an ASGI application, without a server."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from app.middleware.request_ids import RequestIdMiddleware


async def show(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what it sees of the request."""
    request = Request(scope, receive)
    seen = {
        "host": request.headers.get("host"),
        "scheme": scope["scheme"],
        "client": scope["client"][0],
        "headers": sorted(name.decode() for name, _ in scope["headers"]),
        "forwarded": scope["state"].get("forwarded"),
    }
    await JSONResponse(seen)(scope, receive, send)


def ask(
    wrap: Callable[[ASGIApp], ASGIApp],
    method: str = "GET",
    path: str = "/",
    client: str = "127.0.0.1",
    **request: Any,
) -> httpx.Response:
    """The answer of `show` inside the middleware that ``wrap`` makes."""

    async def whole() -> httpx.Response:
        transport = httpx.ASGITransport(RequestIdMiddleware(wrap(show)), client=(client, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as http:
            return await http.request(method, path, **request)

    return asyncio.run(whole())
