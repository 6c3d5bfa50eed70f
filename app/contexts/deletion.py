"""Deleting contexts, with the files that belong to them."""

from __future__ import annotations

import time

import structlog

from app.artifacts import remove_artifact, remove_artifacts, remove_checkpoint, remove_each, remove_parts
from app.contract.names import ErrorCode
from app.errors import DomainError
from app.records.connection import POLL_SECONDS
from app.records.contexts import ContextInUse, Deletion
from app.records.files import ArtifactsUnavailable
from app.records.garbage import removal_end
from app.records.store import Records, TenantRecords


def delete(records: TenantRecords, artifacts_url: str, context_id: str) -> None:
    """Forget a context, cancel its job and remove its files; return once they are gone. Deleting again does no harm.

    Raises `DomainError` (``context_in_use``), and `ArtifactsUnavailable` when the files could not be removed: the
    context is gone then, and deleting it again, or a sweep, removes them.
    """
    try:
        deletion = records.contexts.delete(context_id)
    except ContextInUse as used:
        detail = {
            "alias": "an alias points at it: move or delete the alias first",
            "batch": "a batch needs it: wait for its end, or cancel it first",
        }[used.by]
        raise DomainError(ErrorCode.CONTEXT_IN_USE, detail) from None
    while deletion is not None and not _end(records, artifacts_url, context_id, deletion):
        deletion = records.contexts.delete(context_id, deletion)


def _end(records: TenantRecords, artifacts_url: str, context_id: str, deletion: Deletion) -> bool:
    """Remove what may be removed now of a deleted context, or wait a moment; whether that was all."""
    files = deletion.files
    if files.wait_seconds > 0:  # its worker may be writing, or another may be removing them
        time.sleep(min(POLL_SECONDS, files.wait_seconds))
        return False
    try:
        gone = remove_artifacts(artifacts_url, files)
        if deletion.job_id:
            remove_checkpoint(artifacts_url, deletion.job_id)
    except ArtifactsUnavailable:
        records.contexts.leave(files)
        raise
    return records.contexts.deleted(context_id, files, gone)


def collect(records: Records, artifacts_url: str) -> None:
    """Remove files that nothing refers to. Raises `ArtifactsUnavailable` after those that could be removed."""
    until = removal_end()

    def remove(found: tuple[str, bool]) -> None:
        address, whole = found
        if not whole:
            remove_parts(artifacts_url, address)
            return
        if time.monotonic() >= until:
            return  # it is found again
        remove_artifact(artifacts_url, address)
        records.garbage.collected(address)
        structlog.get_logger().info("artifact_collected", address=address)

    remove_each(remove, records.garbage.files().items())


def finish(records: Records, artifacts_url: str) -> None:
    """End the deletions that a crash left unfinished. Raises `ArtifactsUnavailable` after those that could be ended."""
    remove_each(lambda one: delete(records.of(one.tenant), artifacts_url, one.id), records.garbage.deletions())
