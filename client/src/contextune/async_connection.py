"""The connection of the asynchronous client: as `contextune.connection`, with awaiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import httpx2

from contextune import wire
from contextune.errors import ContextuneError, ServiceUnreachableError
from contextune.models.jobs import Event
from contextune.options import Options
from contextune.protocol.call import Call, Request, Upload
from contextune.protocol.conversation import Conversation, Failure, Outcome, Step, one_call, successful
from contextune.protocol.paging import Item, Paging
from contextune.protocol.streams import Download, EventFeed, Line, LineFeed
from contextune.replacing import replaced

T = TypeVar("T")


class AsyncConnection:
    """A pool of connections to one service."""

    def __init__(self, options: Options, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        self.options = options
        self._http = httpx2.AsyncClient(base_url=options.url, headers=dict(options.headers), transport=transport)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def send(self, call: Call[T]) -> T:
        """Send a call, again where that can help."""
        return await self.hold(one_call(call, self.options.policy))

    async def hold(self, conversation: Conversation[T]) -> T:
        """Do all that a conversation says, and return what it came to."""
        outcome: Outcome = None
        while True:
            try:
                step = conversation.send(outcome)
            except StopIteration as end:
                result: T = end.value
                return result
            outcome = await self._do(step)

    async def iterate(self, paging: Paging[Item]) -> AsyncIterator[Item]:
        """Every item of a list, its pages read as they are needed."""
        while call := paging.next_call():
            for item in paging.take(await self.send(call)):
                yield item

    async def events(self, feed: EventFeed) -> AsyncIterator[Event]:
        """Events as they happen, through breaks of the connection.

        Raises the error of the last break once they have gone on for too long, and at once one that stays.
        """
        while True:
            try:
                async with self.open(feed.request()) as response:
                    wire.check_events(response, self.options.url)
                    async for piece in response.aiter_bytes():
                        for event in feed.take(piece):
                            yield event
                        if feed.ended:
                            return
                if (await self.send(feed.job())).terminal:
                    async for event in self.iterate(feed.rest()):
                        yield feed.passed(event)
                    return
                raise ServiceUnreachableError("the stream of events ended before the job")
            except ContextuneError as error:
                await asyncio.sleep(feed.pause(error))

    async def lines(self, feed: LineFeed[Line]) -> AsyncIterator[Line]:
        """The lines of a long answer, through breaks of the connection.

        Raises the error of the last break once they have gone on for too long, and at once one that stays.
        """
        while True:
            try:
                async with self.open(feed.request()) as response:
                    async for piece in response.aiter_bytes():
                        for entry in feed.take(piece):
                            yield entry
                    for entry in feed.rest():
                        yield entry
            except ContextuneError as error:
                await asyncio.sleep(feed.pause(error))
            else:
                return

    async def download(self, request: Request, path: Path) -> int:
        """Write an answer into a file, which is there whole or not at all; return its bytes.

        Tries again, as the policy says, until the first byte has come. Raises the error of the last attempt.
        """
        download = Download(self.options.policy)
        while True:
            try:
                async with self.open(request) as response:
                    with replaced(path) as partial, partial.open("wb") as file:
                        async for piece in response.aiter_bytes():
                            download.size += file.write(piece)
            except ContextuneError as error:
                await asyncio.sleep(download.pause(error))
            else:
                return download.size

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[httpx2.Response]:
        """An answer to be read piece by piece. Raises what a problem document says."""
        with wire.translated(self.options.url):
            response = await self._http.send(self._built(request), stream=True)
            try:
                if response.status_code >= 300:
                    await response.aread()
                    successful(wire.reply(response))
                yield response
            finally:
                await response.aclose()

    async def _do(self, step: Step) -> Outcome:
        if not isinstance(step, Request):
            await asyncio.sleep(step.seconds)
            return None
        try:
            with wire.translated(self.options.url):
                return wire.reply(await self._http.send(self._built(step)))
        except ServiceUnreachableError as error:
            return Failure(error)

    def _built(self, request: Request) -> httpx2.Request:
        body = request.content
        content = _each(body.chunks()) if isinstance(body, Upload) else body
        return self._http.build_request(**wire.arguments(request, self.options), content=content)


async def _each(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Chunks that are made in a thread, so that a slow disk holds up nothing else."""
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        yield chunk
