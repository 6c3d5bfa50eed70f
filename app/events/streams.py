"""Streams of a job's events: each new event is read once by a gateway, whatever number of readers follow the job.

A reader first gets what the store holds after the last event that it knows, then what happens. A reader that is too
slow is closed, and goes on elsewhere or later from the last event that it knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

import structlog

from app.contract.names import JobStatus
from app.contract.objects import Event
from app.events.feed import Feed
from app.events.reads import JobReads
from app.records.connection import StoreUnavailable
from app.records.store import TenantRecords

#: A reader without news is told so after this long.
HEARTBEAT_SECONDS: Final = 15.0
#: Events that a reader may be behind.
MAX_BEHIND: Final = 1_000
#: How long a job whose events cannot be read is left alone.
_RETRY_SECONDS: Final = 1.0
_ENDED: Final = frozenset(status for status in JobStatus if status.terminal)


def ends_job(event: Event) -> bool:
    """Whether nothing happens to a job after this event."""
    return event.type == "status" and event.data.get("status") in _ENDED


@dataclass(eq=False)
class _Reader:
    """Events that wait for one reader; None at the end of all events."""

    queue: asyncio.Queue[Event | None]
    too_slow: bool = False

    def put(self, event: Event | None) -> None:
        """Hand over an event, or give the reader up."""
        try:
            self.queue.put_nowait(event)
        except asyncio.QueueFull:
            self.too_slow = True


@dataclass
class _Watch:
    """One look-out for the events of a job, shared by its readers.

    begun: set once it hands over all that the store does not hold by then.
    """

    task: asyncio.Task[None]
    readers: set[_Reader]
    begun: asyncio.Event


@dataclass
class EventStreams:
    """The readers of a gateway. All streams end once ``stopping`` is set."""

    feed: Feed
    reads: JobReads
    stopping: asyncio.Event
    heartbeat_seconds: float = HEARTBEAT_SECONDS
    max_behind: int = MAX_BEHIND
    _watches: dict[tuple[str, str], _Watch] = field(init=False, default_factory=dict)

    @property
    def watched(self) -> int:
        """How many jobs have readers."""
        return len(self._watches)

    async def read(self, records: TenantRecords, job_id: str, after: int) -> AsyncIterator[Event | None]:
        """The events of a job after the one with the number ``after``, oldest first; None for a sign of life.

        Ends after the event that ends the job, and when there is no such job any more.
        """
        reader, last = _Reader(asyncio.Queue(self.max_behind)), after
        watch = self._join(records, job_id, reader)
        try:
            while (told := await self._told(records, job_id, last, watch)) is None:
                yield None
                if self.stopping.is_set():
                    return
            for event in told:
                last = int(event.id)
                yield event
                if ends_job(event):
                    return
            async for news in self._news(reader):
                if news is not None and int(news.id) <= last:
                    continue
                yield news
                if news is not None and ends_job(news):
                    return
        finally:
            self._leave(records.tenant, job_id, reader)

    async def _told(self, records: TenantRecords, job_id: str, after: int, watch: _Watch) -> list[Event] | None:
        """What the store holds; None, after a while, where it does not answer.

        The watch may be far ahead of this reader: only the store has what lies between. All readers ask for all
        events, so that they share a read whatever each knows.
        """
        try:
            async with asyncio.timeout(_RETRY_SECONDS):
                await watch.begun.wait()
        except TimeoutError:
            return None
        try:
            return [event for event in await self.reads.events(records, job_id, 0) if int(event.id) > after]
        except StoreUnavailable:
            await asyncio.sleep(_RETRY_SECONDS)
            return None

    async def _news(self, reader: _Reader) -> AsyncIterator[Event | None]:
        stopping = asyncio.create_task(self.stopping.wait())
        getting = asyncio.create_task(reader.queue.get())
        try:
            while not (self.stopping.is_set() or reader.too_slow):
                await asyncio.wait(
                    {getting, stopping}, timeout=self.heartbeat_seconds, return_when=asyncio.FIRST_COMPLETED
                )
                if not getting.done():
                    yield None
                elif (event := getting.result()) is None:
                    return
                else:
                    getting = asyncio.create_task(reader.queue.get())
                    yield event
        finally:
            getting.cancel()
            stopping.cancel()

    def _join(self, records: TenantRecords, job_id: str, reader: _Reader) -> _Watch:
        key = records.tenant, job_id
        if key not in self._watches:
            readers: set[_Reader] = set()
            begun = asyncio.Event()
            task = asyncio.create_task(self._watch(records, job_id, readers, begun))
            self._watches[key] = _Watch(task, readers, begun)
        watch = self._watches[key]
        watch.readers.add(reader)
        return watch

    def _leave(self, tenant: str, job_id: str, reader: _Reader) -> None:
        watch = self._watches[tenant, job_id]
        watch.readers.discard(reader)
        if not watch.readers:
            watch.task.cancel()
            del self._watches[tenant, job_id]

    async def _watch(self, records: TenantRecords, job_id: str, readers: set[_Reader], begun: asyncio.Event) -> None:
        """Hand every new event of a job to its readers, and then the end to all that there are."""
        try:
            await self._follow(records, job_id, readers, begun)
        except Exception as error:  # noqa: BLE001
            # Else its readers would wait for ever. Whoever comes back reads anew, and learns what is wrong.
            structlog.get_logger().error("events_not_read", job_id=job_id, exc_info=error)
        begun.set()
        while True:  # a reader that joins now finds the end in the store, or that there is no job
            _hand(readers, None)
            await asyncio.sleep(_RETRY_SECONDS)

    async def _follow(self, records: TenantRecords, job_id: str, readers: set[_Reader], begun: asyncio.Event) -> None:
        """Hand every new event of a job to its readers, until there are none to come.

        What there was at the first look each reader finds in the store, after it: it may be more than a reader may be
        behind.
        """
        last = 0
        with self.feed.follow(records.tenant, job_id) as follower:
            while True:
                events, there = await self._look(records, job_id, last)
                for event in events:
                    last = int(event.id)
                    if begun.is_set():
                        _hand(readers, event)
                begun.set()
                if not there or (events and ends_job(events[-1])):
                    return
                await follower.changed()

    async def _look(self, records: TenantRecords, job_id: str, after: int) -> tuple[list[Event], bool]:
        """The events of a job after one, and whether there is such a job."""
        while True:
            try:
                events = await self.reads.events(records, job_id, after)
                return events, bool(events) or await self.reads.job(records, job_id) is not None
            except StoreUnavailable as error:
                structlog.get_logger().warning("store_unavailable", reason=str(error))
                await asyncio.sleep(_RETRY_SECONDS)


def _hand(readers: set[_Reader], event: Event | None) -> None:
    for reader in readers:
        reader.put(event)
