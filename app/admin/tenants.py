"""The removal of tenants: object by object, as their users would have deleted them, then whatever else they owned."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import structlog

from app.artifacts import remove_each
from app.contexts.deletion import delete
from app.contract.names import JobKind
from app.errors import DomainError
from app.jobs.ending import cancel
from app.jobs.ending import delete as delete_job
from app.records.lists import JobFilter
from app.records.store import Records, TenantRecords

_PAGE: Final = 100


def remove_deleted(records: Records, artifacts_url: str) -> None:
    """Go on with the removal of each tenant that is being deleted; any number of gateways may do so at once.

    A tenant stays while it has rows of a newer format than this program reads: one that reads them removes them.
    Raises `StoreUnavailable`, and, after the others, `ArtifactsUnavailable` where files of one could not be removed;
    then it goes on another time.
    """

    def remove(tenant: str) -> None:
        if _delete_owned(records.of(tenant), artifacts_url) and records.access.remove_rest(tenant):
            structlog.get_logger().info("tenant_removed", tenant=tenant)

    remove_each(remove, records.access.deleting())


def _delete_owned(owned: TenantRecords, artifacts_url: str) -> bool:
    """Whether no job that this program can read is left."""
    for webhook in owned.webhooks.all():
        owned.webhooks.delete(webhook.id)
    if not _delete_jobs(owned, artifacts_url, JobKind.BATCH):
        return False  # their contexts stay as long
    _delete_contexts(owned, artifacts_url)
    return _delete_jobs(owned, artifacts_url)


def _delete_contexts(owned: TenantRecords, artifacts_url: str) -> None:
    after = None
    while True:
        page = owned.contexts.page(_PAGE, after)
        for context in (stored.context for stored in page.data):
            for alias in context.aliases:
                owned.contexts.delete_alias(context.name or "", alias)
            with suppress(DomainError):  # a batch that this program cannot read needs it
                delete(owned, artifacts_url, context.id)
        if page.next is None:
            return
        after = page.next


def _delete_jobs(owned: TenantRecords, artifacts_url: str, kind: JobKind | None = None) -> bool:
    """Whether none, of that kind, is left: one that runs ends within a step, and is deleted then."""
    after, left = None, 0
    while True:
        page = owned.jobs.page(_PAGE, after, JobFilter(kind=kind))
        for job in page.data:
            if not job.terminal:
                cancel(owned, artifacts_url, job.id)
            left += delete_job(owned, artifacts_url, job.id) is not None
        if page.next is None:
            return left == 0
        after = page.next
