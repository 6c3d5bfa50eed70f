"""Waiting for the end of jobs: however many wait for a job, it is read once for each thing that happens to it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

import structlog

from app.contract.objects import Job
from app.events.feed import Feed
from app.records.connection import StoreUnavailable
from app.records.store import TenantRecords

#: How long a job that cannot be read is left alone (seconds).
_RETRY_SECONDS: Final = 1.0


@dataclass
class _Watch:
    """One look-out for a job, shared by the requests that wait for it."""

    task: asyncio.Task[Job | None]
    waiters: int = 0


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
        job = await asyncio.to_thread(records.jobs.get, job_id)
        if job is None or job.terminal or seconds <= 0 or self.stopping.is_set():
            return job
        watch = self._join(records, job_id)
        stopping = asyncio.create_task(self.stopping.wait())
        try:
            await asyncio.wait({watch.task, stopping}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if watch.task.done():
                return watch.task.result()
        finally:
            stopping.cancel()
            self._leave(records.tenant, job_id, watch)
        return await asyncio.to_thread(records.jobs.get, job_id)

    def _join(self, records: TenantRecords, job_id: str) -> _Watch:
        key = records.tenant, job_id
        if key not in self._watches:
            self._watches[key] = _Watch(asyncio.create_task(self._watch(records, job_id)))
        watch = self._watches[key]
        watch.waiters += 1
        return watch

    def _leave(self, tenant: str, job_id: str, watch: _Watch) -> None:
        watch.waiters -= 1
        if watch.waiters == 0:
            watch.task.cancel()
            del self._watches[tenant, job_id]

    async def _watch(self, records: TenantRecords, job_id: str) -> Job | None:
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
                return await asyncio.to_thread(records.jobs.get, job_id)
            except StoreUnavailable as error:
                structlog.get_logger().warning("store_unavailable", reason=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
