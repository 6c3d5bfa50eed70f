"""Result files of a claimed job: noted before they are written, removed unless a record comes to refer to them.

Knows neither what they hold nor how the job goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from threading import Event
from typing import Final

import structlog

from app.records.claims import Claim
from app.records.connection import StoreUnavailable
from app.records.store import Records
from worker.artifacts import Artifacts, address_of
from worker.jobs.faults import lacks_room, waits
from worker.jobs.lease import Lease, LeaseLost

#: How often the store is asked again.
POLL_SECONDS: Final = 1.0
#: How long a change is offered to a store that does not answer.
_INSIST_SECONDS: Final = 120.0


class ResultFiles:
    """Writes the result files of one claimed job after the other, until ``stopping`` is set."""

    def __init__(self, records: Records, artifacts: Artifacts, stopping: Event) -> None:
        self._records = records
        self._artifacts = artifacts
        self._stopping = stopping
        self._said: tuple[str, str] | None = None

    def write(self, claim: Claim, lease: Lease, content: bytes, suffix: str = "") -> str:
        """Store a file, noting that before, and return its address. Raises what `Lease.check` raises."""
        address = address_of(content, suffix)

        def put() -> str:
            self._begin_write(claim, lease, address)
            return self._artifacts.put(content, suffix)

        try:
            return self.when_there_is_room(claim, lease, put)
        except BaseException:
            self.remove_unwanted(claim, address)
            raise

    def when_there_is_room(self, claim: Claim, lease: Lease, write: Callable[[], str]) -> str:
        """Write what needs room on a disk, as often as it takes. Raises what `Lease.check` raises."""
        for seconds in waits():
            try:
                return write()
            except OSError as error:
                if not lacks_room(error):
                    raise
                self.say(claim, f"no room for the result ({error.strerror}): waiting until there is")
            lease.wait(seconds)
        raise AssertionError("waits end")

    def remove_unwanted(self, claim: Claim, address: str) -> None:
        """Remove a file unless a record refers to it or another worker, which has the job now, writes it too."""
        with suppress(StoreUnavailable):  # a sweep removes it then
            if self._records.end_write(claim, address):
                self._artifacts.remove(address)
                self._records.removed(claim, address)

    def say(self, claim: Claim, text: str) -> None:
        """Tell the job's user, and the log, what holds the job up. Said again only where it has changed."""
        if (claim.job_id, text) == self._said:
            return
        self._said = (claim.job_id, text)
        structlog.get_logger().warning("job_held_up", job_id=claim.job_id, reason=text)
        with suppress(StoreUnavailable):
            self._records.message(claim, text, level="warning")

    def insist(self, change: Callable[[], str]) -> str:
        """Make a change in the store even if that does not answer for a while. Changes may be repeated safely."""
        deadline = time.monotonic() + _INSIST_SECONDS
        while True:
            try:
                return change()
            except StoreUnavailable:
                if self._stopping.is_set() or time.monotonic() > deadline:
                    raise
                time.sleep(POLL_SECONDS)

    def _begin_write(self, claim: Claim, lease: Lease, address: str) -> None:
        while (answer := self.insist(lambda: self._records.begin_write(claim, address))) != "go":
            if answer == "lost":
                raise LeaseLost
            lease.wait(POLL_SECONDS)  # a file with the same content is being removed
