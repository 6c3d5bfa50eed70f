"""Reads of jobs and their events for all that follow them: who wants the same shares a read, and few are under way.

A thread for each request would keep all threads busy, each with a connection to the store, when thousands begin or end
at once. It knows nothing of what happens to jobs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from app.contract.objects import Event, Job
from app.records.store import TenantRecords

#: Reads under way at once; they take turns over connections that the gateway has anyway.
_TURNS: Final = 2

_Key = tuple[str, str, int | None]


class JobReads:
    """Reads jobs. Every method answers from a read that began after the call, and raises what `Jobs` raises."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(_TURNS)
        self._running: dict[_Key, asyncio.Task[Any]] = {}
        self._next: dict[_Key, asyncio.Task[Any]] = {}

    async def job(self, records: TenantRecords, job_id: str) -> Job | None:
        """The job with this id."""
        job: Job | None = await self._shared((records.tenant, job_id, None), partial(records.jobs.get, job_id))
        return job

    async def events(self, records: TenantRecords, job_id: str, after: int) -> list[Event]:
        """The events of a job after the one with the number ``after``, oldest first."""
        read = partial(records.jobs.events, job_id, after)
        events: list[Event] = await self._shared((records.tenant, job_id, after), read)
        return events

    async def _shared(self, key: _Key, read: Callable[[], Any]) -> Any:
        if key not in self._next:
            self._next[key] = asyncio.create_task(self._after(self._running.get(key), key, read))
            self._next[key].add_done_callback(lambda task: task.cancelled() or task.exception())  # nobody may be left
        return await asyncio.shield(self._next[key])

    async def _after(self, before: asyncio.Task[Any] | None, key: _Key, read: Callable[[], Any]) -> Any:
        if before is not None:
            await asyncio.wait({before})
        async with self._turns:
            self._running[key] = self._next.pop(key)
            try:
                return await asyncio.to_thread(read)
            finally:
                del self._running[key]
