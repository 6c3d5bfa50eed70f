"""``/jobs``: look at, wait for, list, cancel and delete jobs."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Request, Response, status

from app.access.callers import Caller
from app.contract.access import Scope
from app.contract.batches import Batch
from app.contract.names import ErrorCode, JobKind, JobStatus
from app.contract.objects import Job
from app.errors import DomainError
from app.gateway import CallerDep, GatewayDep, RecordsDep
from app.jobs.ending import cancel, delete
from app.records.lists import JobFilter
from app.records.store import TenantRecords
from app.routes.disconnect import CLIENT_CLOSED_REQUEST, ClientGone, cancel_on_disconnect
from app.routes.guard import GuardedRoute, needs
from app.routes.lists import After, Limit, Listing
from app.routes.openapi import CHANGES, STORE, problems

router = APIRouter(tags=["jobs"], route_class=GuardedRoute)

_LONGEST_WAIT_SECONDS: Final = 60


def _not_found() -> DomainError:
    return DomainError(ErrorCode.JOB_NOT_FOUND, "there is no such job")


def _require(caller: Caller, scope: Scope, records: TenantRecords, job_id: str) -> None:
    """Raise `DomainError` unless the caller has the scope, or the job is a batch: then `Scope.CLASSIFY` is enough."""
    if not caller.may(scope):
        job = records.jobs.get(job_id)
        if job is not None and job.kind != JobKind.BATCH:
            caller.require(scope)


@router.get("/jobs", responses=problems(*STORE), dependencies=[needs(Scope.READ)])
def list_jobs(
    records: RecordsDep,
    limit: Limit = 20,
    after: After = None,
    status: JobStatus | None = None,
    kind: JobKind | None = None,
    context: Annotated[str | None, Query(max_length=100, description="the id of a context")] = None,
    model: Annotated[str | None, Query(max_length=200)] = None,
) -> Listing[Job | Batch]:
    """List jobs, newest first."""
    wanted = JobFilter(status=status, kind=kind, context_id=context, model=model)
    return Listing[Job | Batch].of(records.jobs.page(limit, after, wanted))


@router.get(
    "/jobs/{job_id}",
    response_model=Job | Batch,
    responses=problems(ErrorCode.JOB_NOT_FOUND, ErrorCode.FORMAT_UNSUPPORTED, *STORE),
    dependencies=[needs(Scope.READ, Scope.CLASSIFY)],
)
async def get_job(
    job_id: str,
    request: Request,
    gateway: GatewayDep,
    records: RecordsDep,
    caller: CallerDep,
    wait: Annotated[
        float, Query(ge=0, le=_LONGEST_WAIT_SECONDS, allow_inf_nan=False, description="seconds to wait for the end")
    ] = 0,
) -> Job | Batch | Response:
    """Get a job; with ``wait``, as soon as it is terminal or that many seconds have passed (or the service stops)."""
    if not caller.may(Scope.READ):
        await asyncio.to_thread(_require, caller, Scope.READ, records, job_id)
    waiting = gateway.waits.until_terminal(records, job_id, wait)
    try:
        job = await (cancel_on_disconnect(request, waiting) if wait else waiting)
    except ClientGone:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    if wait and not await gateway.access.callers.admits(caller):
        raise DomainError(ErrorCode.KEY_INVALID, "the key was revoked, or has expired, while the request waited")
    if job is None:
        raise _not_found()
    return job


@router.post(
    "/jobs/{job_id}/cancel",
    responses=problems(ErrorCode.JOB_NOT_FOUND, ErrorCode.JOB_NOT_CANCELLABLE, ErrorCode.FORMAT_UNSUPPORTED, *CHANGES),
    dependencies=[needs(Scope.CONTEXTS_WRITE, Scope.CLASSIFY, change="job.cancel")],
)
def cancel_job(job_id: str, gateway: GatewayDep, records: RecordsDep, caller: CallerDep) -> Job | Batch:
    """Cancel a job: at once while it is queued, within one step while it runs. Cancelling again changes nothing."""
    _require(caller, Scope.CONTEXTS_WRITE, records, job_id)
    before = cancel(records, gateway.settings.artifacts_url, job_id)
    job = records.jobs.get(job_id)
    if before is None or job is None:
        raise _not_found()
    if before in (JobStatus.SUCCEEDED, JobStatus.FAILED):
        raise DomainError(ErrorCode.JOB_NOT_CANCELLABLE, f"the job has {before} already")
    return job


@router.delete(
    "/jobs/{job_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(ErrorCode.JOB_NOT_TERMINAL, ErrorCode.ARTIFACTS_UNAVAILABLE, *CHANGES),
    dependencies=[needs(Scope.CONTEXTS_WRITE, Scope.CLASSIFY, change="job.delete")],
)
def delete_job(
    job_id: Annotated[str, Path(pattern=r"^job_[0-9a-z]{1,40}$")],
    gateway: GatewayDep,
    records: RecordsDep,
    caller: CallerDep,
) -> None:
    """Delete a job that has ended, with its events and a batch's files; its context stays. There need not be one."""
    _require(caller, Scope.CONTEXTS_WRITE, records, job_id)
    before = delete(records, gateway.settings.artifacts_url, job_id)
    if before is not None:
        raise DomainError(ErrorCode.JOB_NOT_TERMINAL, f"the job is {before}; cancel it first")
