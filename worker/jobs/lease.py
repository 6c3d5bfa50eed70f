"""The lease on a claimed job: kept by beating from a thread of its own, however long a step takes."""

from __future__ import annotations

import time
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from threading import Event, Lock, Thread
from typing import Any, Final, Literal

import structlog

from app.contract.names import HEARTBEAT_SECONDS
from app.records.claims import Claim
from app.records.connection import StoreUnavailable
from app.records.store import Records

#: Shortest time between two beats: each is a write that the store makes durable.
_BEAT_PAUSE_SECONDS: Final = 0.2


class Cancelled(Exception):
    """The user does not want the job any more."""


class LeaseLost(Exception):
    """The job belongs to someone else now; nothing more may be said of it."""


class Parked(Exception):
    """The job was set aside for a shorter one, and goes on from its checkpoint later."""


class Stopping(Exception):
    """The worker must stop; the job goes back to the queue."""


@dataclass
class Lease:
    """Keeps a claimed job as a context manager; learns of its loss, of a cancel, and of the end of the worker."""

    records: Records
    claim: Claim
    stopping: Event
    fields: dict[str, str | int | float] = field(default_factory=dict)
    remaining_seconds: float | None = None
    _ended: Event = field(default_factory=Event)
    _news: Event = field(default_factory=Event)
    _state: str = "held"
    _metrics: dict[str, Any] | None = None
    _beating: Lock = field(default_factory=Lock)
    _thread: Thread = field(init=False)

    def __enter__(self) -> Lease:
        beat = partial(copy_context().run, self._beat_until_ended)  # its lines in the log name the job too
        self._thread = Thread(target=beat, name=f"lease-{self.claim.job_id}", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._news.set()
        self._thread.join()

    def check(self) -> None:
        """Raise `LeaseLost`, `Cancelled` or `Stopping` if the job must not go on."""
        if self._state == "lost":
            raise LeaseLost
        if self._state == "cancel":
            raise Cancelled
        if self.stopping.is_set():
            raise Stopping

    def wait(self, seconds: float) -> None:
        """Wait while the job is held. Raises what `check` raises."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.check()
            self.stopping.wait(min(left, _BEAT_PAUSE_SECONDS))
        self.check()

    def let_shorter_by(self) -> None:
        """Raise `Parked` if the job, whose checkpoint has just been written, was set aside for a shorter one."""
        with suppress(StoreUnavailable):
            if self.remaining_seconds and self.records.park(self.claim, self.remaining_seconds) == "parked":
                raise Parked

    def note(
        self,
        fields: dict[str, str | int | float],
        remaining_seconds: float | None,
        metrics: dict[str, Any] | None = None,
    ) -> None:
        """Progress, as fields of the record, to be written with the next beat, which comes the sooner for it.

        ``metrics`` become an event with it; of those that come between two beats the newest do.
        """
        self.fields = fields
        self.remaining_seconds = remaining_seconds
        self._metrics = metrics or self._metrics
        self._news.set()

    def tell(self) -> None:
        """Write what was noted now, if metrics wait for the next beat; without the store the next beat has them."""
        if self._metrics is not None:
            with suppress(StoreUnavailable):
                self._beat()

    def say(self, text: str, data: dict[str, Any] | None = None, level: Literal["info", "warning"] = "info") -> None:
        """Tell the job's user something, as an event; where the store does not answer, it is lost."""
        structlog.get_logger().info("job_message", message=text)
        with suppress(StoreUnavailable):
            self.records.message(self.claim, text, data, level)

    def _beat_until_ended(self) -> None:
        """Beat with each news, not sooner than after `_BEAT_PAUSE_SECONDS` nor later than after `HEARTBEAT_SECONDS`."""
        while not self._ended.wait(_BEAT_PAUSE_SECONDS):
            self._news.wait(HEARTBEAT_SECONDS - _BEAT_PAUSE_SECONDS)
            self._news.clear()
            if self._ended.is_set():
                return
            try:
                self._beat()
            except StoreUnavailable as error:
                structlog.get_logger().warning("beat_missed", job_id=self.claim.job_id, reason=str(error))
            except Exception as error:  # noqa: BLE001 - the thread must go on: a job that nobody beats for is lost
                structlog.get_logger().error("beat_failed", job_id=self.claim.job_id, exc_info=error)

    def _beat(self) -> None:
        with self._beating:
            metrics, self._metrics = self._metrics, None
            try:
                self._state = self.records.beat(self.claim, dict(self.fields), self.remaining_seconds, metrics)
            except StoreUnavailable:
                self._metrics = self._metrics or metrics
                raise
