"""Deleting contexts, with the files that belong to them."""

from __future__ import annotations

import time
from typing import Final

import structlog

from app.artifacts import remove_artifact, remove_checkpoint, remove_each, remove_parts
from app.contract.names import ErrorCode
from app.errors import DomainError
from app.records.contexts import ContextInUse
from app.records.store import Records, TenantRecords

#: How often is asked whether a worker has let go of what is being deleted.
_POLL_SECONDS: Final = 0.1


def delete(records: TenantRecords, artifacts_url: str, context_id: str) -> None:
    """Forget a context, cancel its job and remove its files; return once they are gone. Deleting again does no harm.

    Raises `DomainError` (``context_in_use``), and `ArtifactsUnavailable` when the files could not be removed: the
    context is gone then, and deleting it again, or a sweep, removes them.
    """
    try:
        deletion = records.contexts.delete(context_id)
        while deletion is not None and deletion.wait_seconds > 0:  # its worker may be writing
            time.sleep(min(_POLL_SECONDS, deletion.wait_seconds))
            deletion = records.contexts.delete(context_id)
    except ContextInUse as used:
        detail = {
            "alias": "an alias points at it: move or delete the alias first",
            "batch": "a batch needs it: wait for its end, or cancel it first",
        }[used.by]
        raise DomainError(ErrorCode.CONTEXT_IN_USE, detail) from None
    if deletion is None:
        return
    for address in deletion.addresses:
        remove_artifact(artifacts_url, address)
    if deletion.job_id:
        remove_checkpoint(artifacts_url, deletion.job_id)
    records.contexts.deleted(context_id)


def collect(records: Records, artifacts_url: str) -> None:
    """Remove files that nothing refers to. Raises `ArtifactsUnavailable` after those that could be removed."""

    def remove(found: tuple[str, bool]) -> None:
        address, whole = found
        if not whole:
            remove_parts(artifacts_url, address)
            return
        remove_artifact(artifacts_url, address)
        records.garbage.collected(address)
        structlog.get_logger().info("artifact_collected", address=address)

    remove_each(remove, records.garbage.files().items())


def finish(records: Records, artifacts_url: str) -> None:
    """End the deletions that a crash left unfinished. Raises `ArtifactsUnavailable` after those that could be ended."""
    remove_each(lambda one: delete(records.of(one.tenant), artifacts_url, one.id), records.garbage.deletions())
