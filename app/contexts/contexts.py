"""Contexts from the gateway's side: find one that can answer, and delete one with its artifact."""

from __future__ import annotations

from app.artifacts import remove_artifact, remove_checkpoint
from app.contract.names import ErrorCode, JobStatus
from app.errors import DomainError
from app.records.rows import StoredContext
from app.records.store import TenantRecords


def find(records: TenantRecords, ref: str) -> StoredContext:
    """The context of a ref. Raises `DomainError` (``context_not_found``)."""
    return _found(records.contexts.resolve(ref))


def find_ready(records: TenantRecords, ref: str) -> tuple[StoredContext, str]:
    """The context of a ref, without its report, and its artifact.

    Raises `DomainError` (``context_not_found``, ``context_not_ready``).
    """
    stored = _found(records.contexts.resolve(ref, report=False))
    if stored.context.status != JobStatus.SUCCEEDED or stored.artifact is None:
        raise DomainError(
            ErrorCode.CONTEXT_NOT_READY,
            f"its job {stored.context.job_id} is {stored.context.status}; only a succeeded one can answer",
            "/context",
        )
    return stored, stored.artifact


def _found(stored: StoredContext | None) -> StoredContext:
    if stored is None:
        raise DomainError(ErrorCode.CONTEXT_NOT_FOUND, "there is no such context")
    return stored


def delete(records: TenantRecords, artifacts_url: str, context_id: str) -> None:
    """Forget a context, cancel its job and remove its artifact. Raises `DomainError` (``context_not_found``)."""
    deleted = records.contexts.delete(context_id)
    if deleted is None:
        raise DomainError(ErrorCode.CONTEXT_NOT_FOUND, "there is no such context")
    if deleted.artifact:
        remove_artifact(artifacts_url, deleted.artifact)
    remove_checkpoint(artifacts_url, deleted.job_id)
