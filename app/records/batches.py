"""The batches of a tenant: upload, submit, list, and read what is done of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from app.contract.batches import LINES_SUFFIX, Batch, BatchSpec
from app.contract.names import JobKind, artifact_url
from app.records.chunks import Chunk, read_chunks
from app.records.connection import Store, StoreUnavailable
from app.records.contexts import QueueFull, QuotaReached, TenantGone
from app.records.files import read_lines
from app.records.idempotency import Answered, ClaimLost
from app.records.jobs import Jobs
from app.records.limits import QueueLimits
from app.records.lists import JobFilter, Page
from app.records.rows import FORMAT, refuse_newer
from app.records.uploads import Upload

#: What a line is taken to need while no batch of the model has ended (milliseconds).
_LINE_MS = 20


class ContextGone(Exception):
    """The context of a batch was deleted as the batch was created."""


@dataclass(frozen=True)
class BatchSubmission:
    """A batch to be created: the context's id and model, what decides it, and how many lines there are.

    ``request_id`` is that of the HTTP request, for the log of the worker that runs the job.
    """

    context_id: str
    model: str
    spec: BatchSpec
    total: int
    request_id: str = ""


@dataclass(frozen=True)
class DoneSoFar:
    """What is there of a batch: its chunks, and whether all of its lines are done."""

    chunks: list[Chunk]
    complete: bool


class Batches:
    """The batches of a tenant. Every method raises `StoreUnavailable`, those that read one `NewerFormat`."""

    def __init__(self, store: Store, root: str, tenant: str, limits: QueueLimits, jobs: Jobs) -> None:
        self._store = store
        self._root = root
        self._tenant = tenant
        self._limits = limits
        self._jobs = jobs

    def upload(self, job_id: str) -> Upload:
        """A file for the batch that is about to be created with this id. Raises `ArtifactsUnavailable`."""
        return Upload(self._store, self._root, self._tenant, job_id, LINES_SUFFIX)

    def submit(self, job_id: str, submission: BatchSubmission, lines: Upload, answered: Answered | None) -> Batch:
        """Create a queued batch of the ``lines`` that were uploaded for it. The caller discards them if this fails.

        ``answered`` is kept under its idempotency key by the same script. Raises `QueueFull`, `QuotaReached`,
        `TenantGone`, `ContextGone`, `ClaimLost` and `ArtifactsUnavailable`.
        """
        address = lines.keep()
        outcome = self._store.run(
            "submit_batch",
            self._tenant,
            job_id,
            submission.context_id,
            address,
            lines.size,
            self._limits.all,
            self._limits.tenant,
            _LINE_MS,
            json.dumps(_fields(submission, address)),
            answered.as_json() if answered else "null",
        )
        refusals = {"lost": ClaimLost, "gone": TenantGone, "unknown": ContextGone, "overloaded": QueueFull}
        if outcome in refusals:
            raise refusals[outcome]
        if outcome != "created":
            raise QuotaReached(outcome)
        batch = self.get(job_id)
        if batch is None:
            raise StoreUnavailable("the batch was deleted as it was created")
        return batch

    def get(self, job_id: str) -> Batch | None:
        """The batch with this id, with its report."""
        job = self._jobs.get(job_id)
        return job if isinstance(job, Batch) else None

    def page(self, limit: int, after: str | None = None) -> Page[Batch]:
        """A page of batches, newest first, without their reports. Raises `UnknownCursor`."""
        page = self._jobs.page(limit, after, JobFilter(kind=JobKind.BATCH))
        return Page(tuple(job for job in page.data if isinstance(job, Batch)), page.next)

    def done(self, job_id: str) -> DoneSoFar | None:
        """What is there of the batch with this id; None if there is no such batch."""
        row, chunks = read_chunks(self._store, self._tenant, job_id)
        if row.get("kind") != JobKind.BATCH:
            return None
        refuse_newer("job", job_id, row)
        return DoneSoFar(chunks, row["status"] == "succeeded")

    def lines(self, address: str) -> Iterator[bytes]:
        """The lines of a file of a batch, one after the other. Raises `ArtifactsUnavailable`."""
        return read_lines(artifact_url(self._root, address))


def _fields(submission: BatchSubmission, address: str) -> dict[str, str | int | float]:
    return {
        "format": FORMAT,
        "kind": JobKind.BATCH,
        "context_id": submission.context_id,
        "request_id": submission.request_id,
        "model": submission.model,
        "batch": submission.spec.model_dump_json(),
        "input": address,
        "total": submission.total,
        "done": 0,
        "failed": 0,
        "step": 0,
        "total_steps": submission.total,
        "fraction": 0.0,
    }
