"""Jobs that end without their worker: cancelled by their user, lost too often, or kept long enough."""

from __future__ import annotations

import time

import structlog

from app.artifacts import remove_artifacts, remove_checkpoint, remove_each
from app.contract.names import JobStatus
from app.records.connection import POLL_SECONDS
from app.records.files import ArtifactsUnavailable
from app.records.garbage import FilesLeft, ObjectRef
from app.records.store import Records, TenantRecords


def cancel(records: TenantRecords, artifacts_url: str, job_id: str) -> JobStatus | None:
    """Ask for the end of a job. Returns its status before, None if there is no such job."""
    before = records.jobs.cancel(job_id)
    now = records.jobs.get(job_id)
    if before is not None and not before.terminal and now is not None and now.terminal:
        _forget_checkpoint(artifacts_url, job_id)  # a worker that was stopped may have left one
    return before


def delete(records: TenantRecords, artifacts_url: str, job_id: str) -> JobStatus | None:
    """Remove a job that has ended, its events and the files of a batch; return once they are gone.

    Returns the status of a job that has not ended, which stays. Raises `ArtifactsUnavailable` when files could not be
    removed: the job is gone then, and deleting it again, or a sweep, removes them.
    """
    outcome = records.jobs.delete(job_id)
    while isinstance(outcome, FilesLeft):
        time.sleep(min(POLL_SECONDS, outcome.wait_seconds))  # another may be removing them
        try:
            gone = remove_artifacts(artifacts_url, outcome)
        except ArtifactsUnavailable:
            records.jobs.leave(outcome)
            raise
        outcome = records.jobs.delete(job_id, outcome, gone)
    return outcome


def remove_files(records: Records, artifacts_url: str) -> None:
    """Remove the files of batches that are past their time, or whose deletion a crash left unfinished.

    Raises `ArtifactsUnavailable` after those that could be removed.
    """

    def remove(job: ObjectRef) -> None:
        delete(records.of(job.tenant), artifacts_url, job.id)

    remove_each(remove, records.garbage.removals())


def sweep(records: Records, artifacts_url: str) -> None:
    """Requeue the jobs of lost workers, and clear up after those that end here."""
    for job, status in records.sweep().items():
        structlog.get_logger().warning("worker_lost", job_id=job.id, status=status)
        if status.terminal:
            _forget_checkpoint(artifacts_url, job.id)


def retire(records: Records) -> None:
    """Remove the jobs that were kept long enough."""
    removed = 0
    while batch := records.retire():
        removed += batch
    if removed:
        structlog.get_logger().info("jobs_removed", count=removed)


def _forget_checkpoint(artifacts_url: str, job_id: str) -> None:
    """Remove a checkpoint. One that cannot be removed now goes with the job's context."""
    try:
        remove_checkpoint(artifacts_url, job_id)
    except ArtifactsUnavailable as error:
        structlog.get_logger().warning("checkpoint_not_removed", job_id=job_id, reason=str(error))
