"""Streams that are opened again: the events of a job, the results of a batch, a file until its first byte."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from contextune.calls import batches, jobs
from contextune.errors import ContextuneError, UnexpectedAnswerError
from contextune.models.batches import BatchError, BatchLine, BatchResult
from contextune.models.jobs import Event, Job
from contextune.protocol.call import Call, Request
from contextune.protocol.conversation import Clock
from contextune.protocol.lines import Lines
from contextune.protocol.paging import Paging
from contextune.protocol.retry import Patience, RetryPolicy

Entry = TypeVar("Entry", bound=BaseModel)
Line = TypeVar("Line", bound=BatchLine)

_TERMINAL: Final = frozenset({"succeeded", "failed", "cancelled"})


class _Feed:
    """A stream that has failed so many times in a row."""

    def __init__(self, now: Clock) -> None:
        self._patience = Patience(now)
        self._failures = 0
        self._lines = Lines()

    def _succeeded(self) -> None:
        self._failures = 0
        self._patience.succeeded()

    def pause(self, error: ContextuneError) -> float:
        """Seconds to wait after the stream broke off. Raises ``error`` when it will not come back."""
        self._failures += 1
        seconds = self._patience.pause(self._failures, error)
        if seconds is None:
            raise error
        return seconds


class EventFeed(_Feed):
    """The events of a job, each once, until the one that says that the job has ended."""

    def __init__(self, job_id: str, now: Clock, after: str | None = None) -> None:
        super().__init__(now)
        self._job_id = job_id
        self._last = after
        self._frame: list[bytes] = []
        self.ended = False

    def request(self) -> Request:
        """What to open next."""
        self._lines, self._frame = Lines(), []
        return jobs.events_stream(self._job_id, self._last)

    def take(self, piece: bytes) -> Iterator[Event]:
        """The events that end in this piece of the stream, none after the one that says that the job has ended.

        Raises ``UnexpectedAnswerError`` for data that is no event.
        """
        for line in self._lines.take(piece):
            self._frame.append(line.removesuffix(b"\r"))
            if self._frame[-1] or self.ended:
                continue
            frame, self._frame = self._frame[:-1], []
            if data := self._data(frame):
                yield self.passed(_parsed(Event, data))

    def passed(self, event: Event) -> Event:
        """The event, after which the stream goes on from now."""
        self._last = event.id
        self.ended = event.type == "status" and event.data.get("status") in _TERMINAL
        return event

    def job(self) -> Call[Job]:
        """What to ask once the stream has ended before the job: the job may have ended before the stream began."""
        return jobs.get(self._job_id)

    def rest(self) -> Paging[Event]:
        """What is left to read of a job that has ended."""
        return Paging(jobs.events_page(self._job_id, after=self._last))

    def _data(self, frame: list[bytes]) -> bytes:
        """The data of what stands between two empty lines. An event and a heartbeat are signs of life.

        A frame of comments alone is a heartbeat. The frame that begins each connection sets ``retry``: it is none.
        """
        fields = [line for line in frame if not line.startswith(b":")]
        data = b"\n".join(line[5:].removeprefix(b" ") for line in fields if line.startswith(b"data:"))
        if data or (frame and not fields):
            self._succeeded()
        return data


class LineFeed(_Feed, Generic[Line]):
    """The results, or the errors, of a batch that are there, each once, in the order of its lines."""

    def __init__(self, batch_id: str, what: str, kind: type[Line], now: Clock, after: int | None = None) -> None:
        super().__init__(now)
        self._batch_id = batch_id
        self._what = what
        self._kind = kind
        self._last = after

    def request(self) -> Request:
        """What to open next."""
        self._lines = Lines()
        return batches.lines(self._batch_id, self._what, self._last)

    def take(self, piece: bytes) -> Iterator[Line]:
        """The entries whose lines end in this piece. Raises ``UnexpectedAnswerError`` for a line that is no entry."""
        yield from self._entries(self._lines.take(piece))

    def rest(self) -> Iterator[Line]:
        """The entry of the last line where nothing ends it. Raises ``UnexpectedAnswerError`` as ``take``."""
        yield from self._entries([self._lines.rest()])

    def _entries(self, lines: list[bytes]) -> Iterator[Line]:
        for line in filter(bytes.strip, lines):
            self._succeeded()
            entry = _parsed(self._kind, line)
            self._last = entry.index
            yield entry


class Download:
    """A file that is asked for again until its first byte has come."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._failures = 0
        self.size = 0

    def pause(self, error: ContextuneError) -> float:
        """Seconds to wait before the next attempt. Raises ``error`` where it is the last, or bytes have come."""
        self._failures += 1
        seconds = None if self.size else self._policy.pause(self._failures, error)
        if seconds is None:
            raise error
        return seconds


def results(batch_id: str, now: Clock, after: int | None) -> LineFeed[BatchResult]:
    """The results of a batch after the one with that index."""
    return LineFeed(batch_id, "results", BatchResult, now, after)


def errors(batch_id: str, now: Clock, after: int | None) -> LineFeed[BatchError]:
    """The lines of a batch that could not be answered, after the one with that index."""
    return LineFeed(batch_id, "errors", BatchError, now, after)


def _parsed(kind: type[Entry], text: bytes) -> Entry:
    try:
        return kind.model_validate_json(text)
    except ValidationError:
        raise UnexpectedAnswerError(f"a line of the answer is no {kind.__name__}") from None
