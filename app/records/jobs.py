"""The jobs of a tenant as their user sees them: find, list, cancel, delete, follow."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from app.contract.names import JobStatus
from app.contract.objects import Event, Job, Report
from app.records.bodies import Bodies, BodyCorrupt
from app.records.connection import Store
from app.records.files import FilesKept
from app.records.garbage import FilesLeft, new_remover, removal_end
from app.records.lists import JobFilter, Page, read_page
from app.records.rows import event_from, job_from_row, row_of, tolerant

#: Events that are read first where only the last ones are wanted.
_NEWEST: Final = 32


class Jobs:
    """The jobs of a tenant. Every method raises `StoreUnavailable`, those that read one `NewerFormat`."""

    def __init__(self, store: Store, bodies: Bodies, tenant: str, keep_batches_seconds: float) -> None:
        self._store = store
        self._bodies = bodies
        self._tenant = tenant
        self._load = partial(job_from_row, keep_batches_seconds=keep_batches_seconds)

    def get(self, job_id: str) -> Job | None:
        """The job with this id, a `Batch` with its report if it is one. Raises `BodyCorrupt` where that is lost."""
        row = row_of(self._store.run("get_job", self._tenant, job_id))
        if not row:
            return None
        try:
            report = tolerant(Report, self._bodies.get(row["report"])) if row.get("report") else None
        except BodyCorrupt:
            if self._store.run("get_job", self._tenant, job_id):
                raise
            return None  # it was deleted meanwhile
        return self._load(job_id, row, report)

    def page(self, limit: int, after: str | None = None, wanted: JobFilter | None = None) -> Page[Job]:
        """A page of jobs, newest first. Raises `UnknownCursor`."""
        indexes = (wanted or JobFilter()).indexes
        return read_page(self._store, self._tenant, "job", indexes, limit, after, self._load)

    def cancel(self, job_id: str) -> JobStatus | None:
        """Ask for the end of a job: at once where no worker has it, else within a step. Returns the status before."""
        status = self._store.run("cancel", self._tenant, job_id)
        return JobStatus(status) if status else None

    def delete(
        self, job_id: str, before: FilesLeft | None = None, gone: Sequence[str] = ()
    ) -> JobStatus | FilesLeft | None:
        """Remove a job that has ended, with its events; returns the status of one that has not, which stays.

        A batch is deleted once its files are: asked again with the answer ``before`` and those of its addresses that
        are ``gone``, the answer names the next, and None at their end. Raises `FilesKept` while a backup is made.
        """
        remover, until = before.remover if before else new_remover(), removal_end()
        outcome = self._store.run("delete_job", self._tenant, job_id, remover, *gone)
        if outcome == "backup":
            raise FilesKept
        if isinstance(outcome, list):
            return FilesLeft(remover, until, outcome[0] / 1000, tuple(outcome[1]))
        return JobStatus(outcome) if outcome else None

    def leave(self, files: FilesLeft) -> None:
        """Leave files that were not removed to whoever deletes the job again."""
        self._store.run("collected", files.remover, *files.addresses)

    def events(self, job_id: str, after: int = 0) -> list[Event]:
        """The events of a job after the one with the number ``after``, oldest first; metrics among them are thinned."""
        newest = [event_from(text) for text in self._store.events(self._tenant, job_id, -_NEWEST, -1)]
        if len(newest) == _NEWEST and int(newest[0].id) > after + 1:
            newest = [event_from(text) for text in self._store.events(self._tenant, job_id, 0, -1)]
        return [event for event in newest if int(event.id) > after]
