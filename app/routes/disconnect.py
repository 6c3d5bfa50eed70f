"""Clients that hang up: what is worked on for them ends, since nobody would read it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from fastapi import Request

T = TypeVar("T")

#: The status in the log of a request whose client hung up; nginx's.
CLIENT_CLOSED_REQUEST: Final = 499


class ClientGone(Exception):
    """The client hung up."""


async def cancel_on_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, or what it raises. Raises `ClientGone` once the client hangs up, and cancels ``work``.

    The body of ``request`` must have been read.
    """
    working, watching = asyncio.create_task(work), asyncio.create_task(_hung_up(request))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        working.cancel()
        watching.cancel()


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
