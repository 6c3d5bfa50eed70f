"""Finding contexts: by a ref, and whether they can answer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from app.contract.names import ErrorCode, JobStatus
from app.contract.tuning import TuningSpec
from app.errors import DomainError
from app.records.rows import StoredContext
from app.records.store import TenantRecords

#: The longest that a client is told to wait for a context that is being tuned.
_LONGEST_RETRY_SECONDS: Final = 60.0


def find(records: TenantRecords, ref: str) -> StoredContext:
    """The context of a ref. Raises `DomainError` (``context_not_found``)."""
    return _found(records.contexts.resolve(ref))


def find_spec(records: TenantRecords, ref: str) -> tuple[StoredContext, TuningSpec | None]:
    """The context of a ref, without its report, and what it was made of, None where it was imported.

    Raises `DomainError`.
    """
    stored = _found(records.contexts.resolve(ref, report=False))
    spec = records.contexts.specs.get(stored.context.id)
    if spec is None and stored.context.job_id is not None:  # deleted meanwhile
        raise _not_found()
    return stored, spec


def find_ready(records: TenantRecords, ref: str, param: str = "/context") -> tuple[StoredContext, str]:
    """The context of a ref, without its report, and its artifact. ``param`` points at the ref in the request.

    Raises `DomainError` (``context_not_found``, ``context_not_ready``, ``context_failed``).
    """
    stored = _found(records.contexts.resolve(ref, report=False))
    if stored.context.status == JobStatus.SUCCEEDED and stored.artifact is not None:
        return stored, stored.artifact
    pending = stored.pending_job or (None if stored.context.status.terminal else stored.context.job_id)
    if pending is None:
        detail = f"its job {stored.context.job_id} has {_ended(stored.context.status)}; no version of it can answer"
        raise DomainError(ErrorCode.CONTEXT_FAILED, detail, param)
    detail = f"its job {pending} has not ended yet; wait for that job"
    wait = _seconds_until_ready(records, pending)
    raise DomainError(ErrorCode.CONTEXT_NOT_READY, detail, param, retry_after=wait)


def _ended(status: JobStatus) -> str:
    return "been cancelled" if status == JobStatus.CANCELLED else str(status)


def _seconds_until_ready(records: TenantRecords, job_id: str) -> float:
    job = records.jobs.get(job_id)
    if job is None or job.estimated_finish_at is None:
        return 1.0
    return min(max(1.0, (job.estimated_finish_at - datetime.now(UTC)).total_seconds()), _LONGEST_RETRY_SECONDS)


def _found(stored: StoredContext | None) -> StoredContext:
    if stored is None:
        raise _not_found()
    return stored


def _not_found() -> DomainError:
    return DomainError(ErrorCode.CONTEXT_NOT_FOUND, "there is no such context")
