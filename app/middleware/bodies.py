"""Bounds on the bodies of requests: their bytes, the time they take to arrive, and what all of them hold in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.contract.names import ErrorCode
from app.errors import DomainError
from app.problems import problem_response

MAX_BODY_BYTES: Final = 8 * 1024 * 1024

#: A body arrives at least this fast (bytes a second), after some seconds in which nothing need come; nor may it stop
#: for as long in between.
_LEAST_RATE: Final = 64 * 1024
_GRACE_SECONDS: Final = 10.0
#: How long a large body waits for others to be parsed.
_TURN_SECONDS: Final = 30.0
#: Bytes of a body that are always taken: the number of connections bounds what these come to.
_FREE_BYTES: Final = 64 * 1024


@dataclass
class BodyMemory:
    """Shares ``capacity`` bytes between the bodies that are held at once.

    Bodies wait for room in the order in which they began. The oldest never waits, so that some body is always complete
    in time however many stopped half-way.
    """

    capacity: int
    wait_seconds: float = 10.0
    #: Held while a large body is parsed: what comes of it takes many times its bytes.
    parsing: asyncio.Lock = field(init=False, default_factory=asyncio.Lock)
    _held: dict[object, int] = field(init=False, default_factory=dict)
    _changed: asyncio.Condition = field(init=False, default_factory=asyncio.Condition)

    @property
    def held(self) -> int:
        """Bytes that are held now, but for the first of each body."""
        return sum(self._held.values())

    async def grow(self, body: object, size: int) -> None:
        """Wait until ``body`` may hold ``size`` bytes. Raises `DomainError` (``overloaded``) where there is no room."""
        if size <= _FREE_BYTES:
            return
        self._held.setdefault(body, 0)
        if not self._fits(body, size):
            try:
                async with asyncio.timeout(self.wait_seconds), self._changed:
                    await self._changed.wait_for(lambda: self._fits(body, size))
            except TimeoutError:
                detail = "too many large requests are being received; try again later"
                raise DomainError(ErrorCode.OVERLOADED, detail, retry_after=self.wait_seconds) from None
        self._held[body] = size

    async def release(self, body: object) -> None:
        """Forget what ``body`` held."""
        if self._held.pop(body, None) is not None:
            async with self._changed:
                self._changed.notify_all()

    def _fits(self, body: object, size: int) -> bool:
        oldest = next(iter(self._held))
        return body is oldest or self.held - self._held[body] + size <= self.capacity


class BodyMiddleware:
    """Refuses a body over its route's limit with 413, a slow one with 408, one that memory has no room for with 429.

    A body that no route reads is not held. ``limit`` gives a route's limit in bytes by method and path.
    """

    def __init__(self, app: ASGIApp, memory: BodyMemory, limit: Callable[[str, str], int]) -> None:
        self.app = app
        self._memory = memory
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        body = ArrivingBody(receive, self._memory, self._limit(scope["method"], path))
        declared = request.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > body.limit:
            await problem_response(request, body.too_large())(scope, receive, send)
            return
        request.state.body = body
        try:
            await self.app(scope, body.receive, send)
        finally:
            await self._memory.release(body)


class ArrivingBody:
    """A request's body as it arrives; ``state.body`` of the request."""

    def __init__(self, receive: Receive, memory: BodyMemory, limit: int) -> None:
        self.limit = limit
        self._receive = receive
        self._memory = memory
        self._size = 0
        self._complete = False
        self._began = time.monotonic()

    async def receive(self) -> Message:
        """The next message of the server. Raises `DomainError` for a body that is too large, slow, or has no room."""
        if self._complete:
            return await self._receive()
        due = self._began + _GRACE_SECONDS + self._size / _LEAST_RATE
        try:
            async with asyncio.timeout(min(due - time.monotonic(), _GRACE_SECONDS)):
                message = await self._receive()
        except TimeoutError:
            raise DomainError(ErrorCode.REQUEST_TIMEOUT, "the body did not arrive in time") from None
        self._size += len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        if self._size > self.limit:
            raise self.too_large()
        await self.hold(self._size)
        return message

    async def hold(self, size: int) -> None:
        """Wait until memory has room for ``size`` bytes of the body, as after decompression. Raises `DomainError`."""
        waited_from = time.monotonic()
        await self._memory.grow(self, size)
        self._began += time.monotonic() - waited_from  # what we made it wait is not the client's fault

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Parse the body within: large ones have their turn one after the other. Raises `DomainError`."""
        try:
            async with asyncio.timeout(_TURN_SECONDS):
                await self._memory.parsing.acquire()
        except TimeoutError:
            raise DomainError(ErrorCode.OVERLOADED, "too many large requests are being read", retry_after=10) from None
        try:
            yield
        finally:
            self._memory.parsing.release()

    def too_large(self) -> DomainError:
        """The failure of a body over the limit."""
        return DomainError(ErrorCode.BODY_TOO_LARGE, f"the body may have at most {self.limit} bytes")
