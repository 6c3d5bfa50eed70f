"""Jobs from the gateway's side: plan, submit, wake a worker, wait, and sweep up after lost workers.

The record in the store is the truth. The Celery message only wakes a worker sooner than it would look by itself.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import structlog

from app.artifacts import ArtifactsUnavailable, remove_checkpoint
from app.classification.bus import Bus, BusUnavailable
from app.contract.messages import PlanReply, PlanRequest
from app.contract.names import TUNE_TASK, ErrorCode, JobStatus, tune_queue
from app.contract.objects import Job
from app.contract.tuning import Plan, TuningSpec
from app.errors import DomainError
from app.records.connection import new_id
from app.records.contexts import Submission
from app.records.rows import StoredContext
from app.records.store import Records, TenantRecords

_PLAN_TIMEOUT: Final = 30.0
_LOOK_EVERY: Final = 0.2


async def plan(bus: Bus, model: str, spec: TuningSpec) -> Plan:
    """What ``spec`` needs, measured by a worker.

    Raises `DomainError` if it cannot be tuned, and what `Bus.call` raises.
    """
    request = PlanRequest(
        id=new_id("plan"),
        reply_to=bus.reply_channel,
        model=model,
        spec=spec,
        request_id=structlog.contextvars.get_contextvars().get("request_id"),
    )
    reply = PlanReply.model_validate_json(await bus.call(request, _PLAN_TIMEOUT))
    if reply.failure is not None:
        raise DomainError.from_failure(reply.failure)
    if reply.plan is None:
        raise DomainError(ErrorCode.INTERNAL, "a worker answered without a plan")
    return reply.plan


async def submit(records: TenantRecords, bus: Bus, submission: Submission) -> tuple[StoredContext, Job]:
    """Store a context and its job, then wake a worker. A lost wake-up call delays the job by a second at most."""
    context, job = await asyncio.to_thread(records.contexts.submit, submission)
    try:
        await bus.send(TUNE_TASK, tune_queue(submission.model), job.id)
    except BusUnavailable as error:
        structlog.get_logger().warning("wake_up_not_sent", job_id=job.id, reason=str(error))
    return context, job


async def wait_until_terminal(
    records: TenantRecords, job_id: str, seconds: float, stopping: asyncio.Event
) -> Job | None:
    """The job, once it is terminal, ``seconds`` have passed or ``stopping`` is set; None if there is no such job."""
    deadline = time.monotonic() + seconds
    while True:
        job = await asyncio.to_thread(records.jobs.get, job_id)
        if job is None or job.terminal or stopping.is_set() or time.monotonic() >= deadline:
            return job
        await asyncio.sleep(min(_LOOK_EVERY, max(0.0, deadline - time.monotonic())))


def cancel(records: TenantRecords, artifacts_url: str, job_id: str) -> JobStatus | None:
    """Ask for the end of a job. Returns its status before, None if there is no such job."""
    before = records.jobs.cancel(job_id)
    now = records.jobs.get(job_id)
    if before is not None and not before.terminal and now is not None and now.terminal:
        _forget_checkpoint(artifacts_url, job_id)  # a worker that was stopped may have left one
    return before


def sweep(records: Records, artifacts_url: str) -> None:
    """Requeue the jobs of lost workers, and clear up after those that end here."""
    for job, status in records.sweep().items():
        structlog.get_logger().warning("worker_lost", job_id=job.id, status=status)
        if status.terminal:
            _forget_checkpoint(artifacts_url, job.id)


def _forget_checkpoint(artifacts_url: str, job_id: str) -> None:
    """Remove a checkpoint. One that cannot be removed now goes with the job's context."""
    try:
        remove_checkpoint(artifacts_url, job_id)
    except ArtifactsUnavailable as error:
        structlog.get_logger().warning("checkpoint_not_removed", job_id=job_id, reason=str(error))


def retire(records: Records) -> None:
    """Remove the jobs that were kept long enough."""
    removed = 0
    while batch := records.retire():
        removed += batch
    if removed:
        structlog.get_logger().info("jobs_removed", count=removed)
