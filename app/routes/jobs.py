"""``/jobs``: look at, wait for, list and cancel jobs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from app.contract.names import ErrorCode, JobKind, JobStatus
from app.contract.objects import Job
from app.errors import DomainError
from app.gateway import GatewayDep, RecordsDep
from app.jobs import jobs
from app.records.lists import JobFilter
from app.routes.lists import After, Limit, Listing
from app.routes.openapi import CHANGES, STORE, problems

router = APIRouter(tags=["jobs"])


def _not_found() -> DomainError:
    return DomainError(ErrorCode.JOB_NOT_FOUND, "there is no such job")


@router.get("/jobs", responses=problems(*STORE))
def list_jobs(
    records: RecordsDep,
    limit: Limit = 20,
    after: After = None,
    status: JobStatus | None = None,
    kind: JobKind | None = None,
    context: Annotated[str | None, Query(max_length=100, description="the id of a context")] = None,
    model: Annotated[str | None, Query(max_length=200)] = None,
) -> Listing[Job]:
    """List jobs, newest first."""
    wanted = JobFilter(status=status, kind=kind, context_id=context, model=model)
    return Listing[Job].of(records.jobs.page(limit, after, wanted))


@router.get("/jobs/{job_id}", responses=problems(ErrorCode.JOB_NOT_FOUND, *STORE))
async def get_job(
    job_id: str,
    gateway: GatewayDep,
    records: RecordsDep,
    wait: Annotated[float, Query(ge=0, le=60, allow_inf_nan=False, description="seconds to wait for the end")] = 0,
) -> Job:
    """Get a job; with ``wait``, as soon as it is terminal or that many seconds have passed (or the service stops)."""
    job = await jobs.wait_until_terminal(records, job_id, wait, gateway.stopping)
    if job is None:
        raise _not_found()
    return job


@router.post(
    "/jobs/{job_id}/cancel",
    responses=problems(ErrorCode.JOB_NOT_FOUND, ErrorCode.JOB_NOT_CANCELLABLE, *CHANGES),
)
def cancel_job(job_id: str, gateway: GatewayDep, records: RecordsDep) -> Job:
    """Cancel a job: at once while it is queued, within one step while it runs. Cancelling again changes nothing."""
    before = jobs.cancel(records, gateway.settings.artifacts_url, job_id)
    job = records.jobs.get(job_id)
    if before is None or job is None:
        raise _not_found()
    if before in (JobStatus.SUCCEEDED, JobStatus.FAILED):
        raise DomainError(ErrorCode.JOB_NOT_CANCELLABLE, f"the job has {before} already")
    return job
