"""Bounds on the bodies of requests: their bytes, the time they take to arrive, and what all of them hold in memory."""

from __future__ import annotations

import asyncio
import errno
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.contract.names import ErrorCode
from app.errors import DomainError
from app.paths import own_path
from app.problems import problem_response

#: Most bytes of a body that is held in memory; routes that take more have it written to a file.
MAX_BODY_BYTES: Final = 8 * 1024 * 1024

#: A body arrives at least this fast (bytes a second), after `BodyMemory.grace_seconds`.
_LEAST_RATE: Final = 64 * 1024
#: How long a large body waits for others to be parsed, or received.
_TURN_SECONDS: Final = 30.0
_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT)
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
    #: For how long nothing of a body need come, at its begin or in between.
    grace_seconds: float = 10.0
    #: Held while a large body is parsed: what comes of it takes many times its bytes.
    parsing: asyncio.Lock = field(init=False, default_factory=asyncio.Lock)
    #: Held while a body is written to a file and read from it: there is one at a time.
    spooling: asyncio.Lock = field(init=False, default_factory=asyncio.Lock)
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

    A body that no route reads is not held. ``limit`` gives a route's limit in bytes by method and path; what is over
    `MAX_BODY_BYTES` lies in ``folder`` until it is read.
    """

    def __init__(self, app: ASGIApp, memory: BodyMemory, limit: Callable[[str, str], int], folder: Path) -> None:
        self.app = app
        self._memory = memory
        self._limit = limit
        self._folder = folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        limit = self._limit(scope["method"], own_path(scope))
        body = ArrivingBody(receive, self._memory, limit, self._folder)
        declared = request.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > body.limit:
            await problem_response(request, body.too_large())(scope, receive, send)
            return
        request.state.body = body
        try:
            await self.app(scope, body.receive, send)
        finally:
            await body.release()


class ArrivingBody:
    """A request's body as it arrives; ``state.body`` of the request."""

    def __init__(self, receive: Receive, memory: BodyMemory, limit: int, folder: Path) -> None:
        self.limit = limit
        self._folder = folder
        self._file: BinaryIO | None = None
        self._receive = receive
        self._memory = memory
        self._size = 0
        self._complete = False
        self._streamed = False
        self._began = self._returned = time.monotonic()

    async def receive(self) -> Message:
        """The next message of the server. Raises `DomainError` for a body that is too large, slow, or has no room."""
        if self._complete:
            return await self._receive()
        if self._streamed:
            self._began += time.monotonic() - self._returned  # what we made it wait is not the client's fault
        grace = self._memory.grace_seconds
        due = self._began + grace + self._size / _LEAST_RATE
        try:
            async with asyncio.timeout(min(due - time.monotonic(), grace)):
                message = await self._receive()
        except TimeoutError:
            raise DomainError(ErrorCode.REQUEST_TIMEOUT, "the body did not arrive in time") from None
        self._size += len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        if self._size > self.limit:
            raise self.too_large()
        if self._file is None and not self._streamed:
            await self.hold(min(self._size, MAX_BODY_BYTES))
        self._returned = time.monotonic()
        return message

    def stream(self) -> None:
        """Do not count the body as held from now on: whoever reads it keeps none of it in memory."""
        self._streamed, self._returned = True, time.monotonic()

    async def hold(self, size: int) -> None:
        """Wait until memory has room for ``size`` bytes of the body, as after decompression. Raises `DomainError`."""
        waited_from = time.monotonic()
        await self._memory.grow(self, size)
        self._began += time.monotonic() - waited_from  # what we made it wait is not the client's fault

    async def spool(self) -> BinaryIO:
        """A file to write the body to from now on, in place of memory. It has no name, so nothing is left of it.

        Raises `DomainError` where other bodies that are received in this way take too long, or no file can be made.
        """
        waited_from = time.monotonic()
        await _in_turn(self._memory.spooling)
        self._began += time.monotonic() - waited_from  # what we made it wait is not the client's fault
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed by `release`
        except OSError as error:
            self._memory.spooling.release()
            raise disk_failure(error) from error
        await self._memory.release(self)
        return self._file

    async def release(self) -> None:
        """Let go of the body: of memory, and of its file."""
        if self._file is not None:
            self._file.close()
            self._memory.spooling.release()
        await self._memory.release(self)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Parse the body within: large ones have their turn one after the other. Raises `DomainError`."""
        await _in_turn(self._memory.parsing)
        try:
            yield
        finally:
            self._memory.parsing.release()

    def too_large(self) -> DomainError:
        """The failure of a body over the limit."""
        return DomainError(ErrorCode.BODY_TOO_LARGE, f"the body may have at most {self.limit} bytes")


def uploads_folder(artifacts_url: str, data_dir: Path) -> Path:
    """Where bodies lie that are too large for memory: on the disk of the artifacts, if that is a local one."""
    local = artifacts_url.removeprefix("file://")
    return (Path(local) if local != artifacts_url else data_dir) / "uploads"


async def _in_turn(turns: asyncio.Lock) -> None:
    """Acquire a turn. Raises `DomainError` when there is none in time."""
    try:
        async with asyncio.timeout(_TURN_SECONDS):
            await turns.acquire()
    except TimeoutError:
        raise DomainError(ErrorCode.OVERLOADED, "too many large requests are being read", retry_after=10) from None


def disk_failure(error: OSError) -> Exception:
    """What a failure to write a body means to its sender."""
    if error.errno in _NO_SPACE:
        return DomainError(ErrorCode.DISK_FULL, "there is no room on disk for a body of this size")
    return error
