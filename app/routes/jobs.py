"""``/jobs``: look at, wait for, list and cancel jobs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from app.contract.names import ErrorCode, JobStatus
from app.contract.objects import Job
from app.gateway import GatewayDep
from app.jobs import jobs
from app.problems import Problem
from app.routes.lists import After, Limit, Listing
from app.routes.responses import problems

router = APIRouter(tags=["jobs"])


def _not_found() -> Problem:
    return Problem(ErrorCode.JOB_NOT_FOUND, "there is no such job")


@router.get("/jobs", responses=problems())
def list_jobs(
    gateway: GatewayDep,
    limit: Limit = 20,
    after: After = None,
    status: JobStatus | None = None,
    model: Annotated[str | None, Query(max_length=200)] = None,
) -> Listing[Job]:
    """List jobs, newest first."""

    def keep(job: Job) -> bool:
        return (status is None or job.status == status) and (model is None or job.model == model)

    return Listing[Job].page(gateway.records.jobs(limit + 1, after, keep), limit)


@router.get("/jobs/{job_id}", responses=problems(ErrorCode.JOB_NOT_FOUND))
async def get_job(
    job_id: str,
    gateway: GatewayDep,
    wait: Annotated[float, Query(ge=0, le=60, allow_inf_nan=False, description="seconds to wait for the end")] = 0,
) -> Job:
    """Get a job; with ``wait``, as soon as it is terminal or that many seconds have passed (or the service stops)."""
    job = await jobs.wait_until_terminal(gateway.records, job_id, wait, gateway.stopping)
    if job is None:
        raise _not_found()
    return job


@router.post("/jobs/{job_id}/cancel", responses=problems(ErrorCode.JOB_NOT_FOUND, ErrorCode.JOB_NOT_CANCELLABLE))
def cancel_job(job_id: str, gateway: GatewayDep) -> Job:
    """Cancel a job: at once while it is queued, within one step while it runs. Cancelling again changes nothing."""
    before = jobs.cancel(gateway.records, gateway.settings.artifacts_url, job_id)
    job = gateway.records.job(job_id)
    if before is None or job is None:
        raise _not_found()
    if before in (JobStatus.SUCCEEDED, JobStatus.FAILED):
        raise Problem(ErrorCode.JOB_NOT_CANCELLABLE, f"the job has {before} already")
    return job
