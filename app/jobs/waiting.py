"""Waiting for the end of jobs: however many wait for a job, it is read once for each thing that happens to it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Literal

import structlog

from app.contract.objects import Job
from app.events.feed import Feed
from app.events.reads import JobReads
from app.records.connection import StoreUnavailable
from app.records.store import TenantRecords

#: How long a job that cannot be read is left alone (seconds).
_RETRY_SECONDS: Final = 1.0


@dataclass(eq=False)
class _Watch:
    """One look-out for a job, shared by the requests that wait for it; ``over`` once there is nothing to wait for."""

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
    reads: JobReads
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
            job = await self.reads.job(records, job_id)
            if job is None or job.terminal:
                return job
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await watch.over.wait()
            return watch.ended.result() if watch.ended.done() else await self.reads.job(records, job_id)
        finally:
            self._leave(records.tenant, job_id, watch)

    def _join(self, records: TenantRecords, job_id: str) -> _Watch:
        key = records.tenant, job_id
        if key not in self._watches:
            watch = _Watch()
            watch.ended = asyncio.create_task(self._ended(records, job_id))
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

    async def _ended(self, records: TenantRecords, job_id: str) -> Job | None:
        """The job, once it has ended."""
        with self.feed.follow(records.tenant, job_id) as follower:
            while True:
                job = await self._read(records, job_id)
                if job is None or job.terminal:
                    return job
                await follower.changed()

    async def _read(self, records: TenantRecords, job_id: str) -> Job | None:
        while True:
            try:
                return await self.reads.job(records, job_id)
            except StoreUnavailable as error:
                structlog.get_logger().warning("store_unavailable", reason=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
