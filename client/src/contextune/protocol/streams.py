"""Streams that go on where they broke off: the events of a job, the results of a batch."""

from __future__ import annotations

from typing import Final, Generic, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from contextune.calls import batches, jobs
from contextune.errors import ContextuneError, UnexpectedAnswerError
from contextune.models.batches import BatchError, BatchLine, BatchResult
from contextune.models.jobs import Event
from contextune.protocol.call import Request
from contextune.protocol.conversation import Clock
from contextune.protocol.retry import Patience

Entry = TypeVar("Entry", bound=BaseModel)
Line = TypeVar("Line", bound=BatchLine)

_TERMINAL: Final = frozenset({"succeeded", "failed", "cancelled"})


class SentEvent(Protocol):
    """A server-sent event as a decoder gives it."""

    @property
    def id(self) -> str: ...  # noqa: D102
    @property
    def data(self) -> str: ...  # noqa: D102


class _Feed:
    """A stream that has failed so many times in a row."""

    def __init__(self, now: Clock) -> None:
        self._patience = Patience(now)
        self._failures = 0

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
        self.ended = False

    def request(self) -> Request:
        """What to open next."""
        return jobs.events_stream(self._job_id, self._last)

    def take(self, sent: SentEvent) -> Event | None:
        """The event that was sent; None for one that is only a sign of life."""
        self._succeeded()
        if not sent.data:
            return None
        event = _parsed(Event, sent.data)
        self._last = event.id
        self.ended = event.type == "status" and event.data.get("status") in _TERMINAL
        return event


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
        return batches.lines(self._batch_id, self._what, self._last)

    def take(self, line: str) -> Line | None:
        """The entry of a line; None for an empty one."""
        if not line.strip():
            return None
        self._succeeded()
        entry = _parsed(self._kind, line)
        self._last = entry.index
        return entry


def results(batch_id: str, now: Clock, after: int | None) -> LineFeed[BatchResult]:
    """The results of a batch after the one with that index."""
    return LineFeed(batch_id, "results", BatchResult, now, after)


def errors(batch_id: str, now: Clock, after: int | None) -> LineFeed[BatchError]:
    """The lines of a batch that could not be answered, after the one with that index."""
    return LineFeed(batch_id, "errors", BatchError, now, after)


def _parsed(kind: type[Entry], text: str) -> Entry:
    try:
        return kind.model_validate_json(text)
    except ValidationError:
        raise UnexpectedAnswerError(f"a line of the answer is no {kind.__name__}") from None
