"""Submissions: a context and its job are stored, and a worker is woken.

The record in the store is the truth. The Celery message only wakes a worker sooner than it would look by itself.
"""

from __future__ import annotations

import asyncio

import structlog

from app.classification.bus import Bus, BusUnavailable
from app.contract.names import TUNE_TASK, tune_queue
from app.contract.objects import Job
from app.records.contexts import Submission
from app.records.idempotency import Answered
from app.records.rows import StoredContext
from app.records.store import TenantRecords


async def submit(
    records: TenantRecords,
    bus: Bus,
    submission: Submission,
    answered: Answered | None = None,
    ids: tuple[str, str] | None = None,
) -> tuple[StoredContext, Job]:
    """Store a context and its job, with the ``ids`` where given, then wake a worker.

    A lost wake-up call delays the job by a second at most. Raises what `Contexts.submit` raises.
    """
    context, job = await asyncio.to_thread(records.contexts.submit, submission, answered, ids)
    await wake(bus, job)
    return context, job


async def wake(bus: Bus, job: Job) -> None:
    """Wake a worker for a job that was stored; without the bus, one finds the job by itself."""
    try:
        await bus.send(TUNE_TASK, tune_queue(job.model), job.id)
    except BusUnavailable as error:
        structlog.get_logger().warning("wake_up_not_sent", job_id=job.id, reason=str(error))
