"""Waiting for the end of jobs: however many wait for a job, it is read once for each thing that happens to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal

import structlog

from app.contract.objects import Job
from app.events.feed import Feed
from app.records.connection import StoreUnavailable
from app.records.store import TenantRecords

#: How long a job that cannot be read is left alone (seconds).
_RETRY_SECONDS: Final = 1.0


class _SharedRead:
    """Reads a job for everybody who asks at about the same time.

    A thread for each request would keep all threads busy when thousands begin or end their wait at once.
    """

    def __init__(self, read: Callable[[], Job | None]) -> None:
        self._read = read
        self._running: asyncio.Task[Job | None] | None = None
        self._next: asyncio.Task[Job | None] | None = None

    async def __call__(self) -> Job | None:
        """The job, from a read that began after the call. Raises what the read raises."""
        if self._next is None:
            self._next = asyncio.create_task(self._after(self._running))
            self._next.add_done_callback(lambda task: task.cancelled() or task.exception())  # nobody may be left
        return await asyncio.shield(self._next)

    async def _after(self, before: asyncio.Task[Job | None] | None) -> Job | None:
        if before is not None:
            await asyncio.wait({before})
        self._running, self._next = self._next, None
        return await asyncio.to_thread(self._read)


@dataclass(eq=False)
class _Watch:
    """One look-out for a job, shared by the requests that wait for it; ``over`` once there is nothing to wait for."""

    read: _SharedRead
    over: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Task[Job | None] = field(init=False)
    stopping: asyncio.Task[Literal[True]] = field(init=False)
    waiters: int = 0

    def close(self) -> None:
        """End the look-out."""
        self.ended.cancel()
        self.stopping.cancel()


@dataclass
class JobWaits:
    """The requests of a gateway that wait for jobs to end. All waits end once ``stopping`` is set."""

    feed: Feed
    stopping: asyncio.Event
    _watches: dict[tuple[str, str], _Watch] = field(init=False, default_factory=dict)

    @property
    def watched(self) -> int:
        """How many jobs are waited for."""
        return len(self._watches)

    async def until_terminal(self, records: TenantRecords, job_id: str, seconds: float) -> Job | None:
        """The job once it is terminal or ``seconds`` have passed; None if there is no such job.

        Raises `StoreUnavailable` if it cannot be read to begin with, or at the end.
        """
        if seconds <= 0 or self.stopping.is_set():
            return await asyncio.to_thread(records.jobs.get, job_id)
        watch = self._join(records, job_id)
        try:
            job = await watch.read()
            if job is None or job.terminal:
                return job
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await watch.over.wait()
            return watch.ended.result() if watch.ended.done() else await watch.read()
        finally:
            self._leave(records.tenant, job_id, watch)

    def _join(self, records: TenantRecords, job_id: str) -> _Watch:
        key = records.tenant, job_id
        if key not in self._watches:
            watch = _Watch(_SharedRead(partial(records.jobs.get, job_id)))
            watch.ended = asyncio.create_task(self._ended(watch, *key))
            watch.stopping = asyncio.create_task(self.stopping.wait())
            for task in (watch.ended, watch.stopping):
                task.add_done_callback(lambda _: watch.over.set())
            self._watches[key] = watch
        watch = self._watches[key]
        watch.waiters += 1
        return watch

    def _leave(self, tenant: str, job_id: str, watch: _Watch) -> None:
        watch.waiters -= 1
        if watch.waiters == 0:
            watch.close()
            del self._watches[tenant, job_id]

    async def _ended(self, watch: _Watch, tenant: str, job_id: str) -> Job | None:
        """The job, once it has ended."""
        with self.feed.follow(tenant, job_id) as follower:
            while True:
                job = await self._read(watch)
                if job is None or job.terminal:
                    return job
                await follower.changed()

    async def _read(self, watch: _Watch) -> Job | None:
        while True:
            try:
                return await watch.read()
            except StoreUnavailable as error:
                structlog.get_logger().warning("store_unavailable", reason=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
