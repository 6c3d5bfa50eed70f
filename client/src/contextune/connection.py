"""Does what a conversation says, and waits for it: sends, pauses, reads streams. It decides nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
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


class Connection:
    """A pool of connections to one service."""

    def __init__(self, options: Options, transport: httpx2.BaseTransport | None = None) -> None:
        self.options = options
        self._http = httpx2.Client(base_url=options.url, headers=dict(options.headers), transport=transport)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def send(self, call: Call[T]) -> T:
        """Send a call, again where that can help."""
        return self.hold(one_call(call, self.options.policy))

    def hold(self, conversation: Conversation[T]) -> T:
        """Do all that a conversation says, and return what it came to."""
        outcome: Outcome = None
        while True:
            try:
                step = conversation.send(outcome)
            except StopIteration as end:
                result: T = end.value
                return result
            outcome = self._do(step)

    def iterate(self, paging: Paging[Item]) -> Iterator[Item]:
        """Every item of a list, its pages read as they are needed."""
        while call := paging.next_call():
            yield from paging.take(self.send(call))

    def events(self, feed: EventFeed) -> Iterator[Event]:
        """Events as they happen, through breaks of the connection.

        Raises the error of the last break once they have gone on for too long, and at once one that stays.
        """
        while True:
            try:
                with self.open(feed.request()) as response:
                    wire.check_events(response, self.options.url)
                    for piece in response.iter_bytes():
                        yield from feed.take(piece)
                        if feed.ended:
                            return
                if self.send(feed.job()).terminal:
                    for event in self.iterate(feed.rest()):
                        yield feed.passed(event)
                    return
                raise ServiceUnreachableError("the stream of events ended before the job")
            except ContextuneError as error:
                time.sleep(feed.pause(error))

    def lines(self, feed: LineFeed[Line]) -> Iterator[Line]:
        """The lines of a long answer, through breaks of the connection.

        Raises the error of the last break once they have gone on for too long, and at once one that stays.
        """
        while True:
            try:
                with self.open(feed.request()) as response:
                    for piece in response.iter_bytes():
                        yield from feed.take(piece)
                    yield from feed.rest()
            except ContextuneError as error:
                time.sleep(feed.pause(error))
            else:
                return

    def download(self, request: Request, path: Path) -> int:
        """Write an answer into a file, which is there whole or not at all; return its bytes.

        Tries again, as the policy says, until the first byte has come. Raises the error of the last attempt.
        """
        download = Download(self.options.policy)
        while True:
            try:
                with self.open(request) as response, replaced(path) as partial, partial.open("wb") as file:
                    for piece in response.iter_bytes():
                        download.size += file.write(piece)
            except ContextuneError as error:
                time.sleep(download.pause(error))
            else:
                return download.size

    @contextmanager
    def open(self, request: Request) -> Iterator[httpx2.Response]:
        """An answer to be read piece by piece. Raises what a problem document says."""
        with wire.translated(self.options.url):
            response = self._http.send(self._built(request), stream=True)
            try:
                if response.status_code >= 300:
                    response.read()
                    successful(wire.reply(response))
                yield response
            finally:
                response.close()

    def _do(self, step: Step) -> Outcome:
        if not isinstance(step, Request):
            time.sleep(step.seconds)
            return None
        try:
            with wire.translated(self.options.url):
                return wire.reply(self._http.send(self._built(step)))
        except ServiceUnreachableError as error:
            return Failure(error)

    def _built(self, request: Request) -> httpx2.Request:
        body = request.content
        content = body.chunks() if isinstance(body, Upload) else body
        return self._http.build_request(**wire.arguments(request, self.options), content=content)
