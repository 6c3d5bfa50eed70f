"""`Records`: the one door to the durable records.

Synchronous redis-py; used by the gateway (from threads) and by the worker. It knows nothing of HTTP or of the bus.
What users ask for goes through `Records.of`, which names their tenant; `Records` itself is for workers and sweeps.
Every method raises `StoreUnavailable` when the store does not answer within its deadline; a change is then either whole
or absent, and all changes may be repeated safely.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

import redis
import structlog
from pydantic import ValidationError

from app.contract.names import LEASE_SECONDS, MAX_ATTEMPTS, ErrorCode, JobStatus
from app.contract.objects import JobError, Report, Scores
from app.records.access import AccessRecords
from app.records.audit import AuditLog
from app.records.batches import Batches
from app.records.bodies import Bodies, BodyCorrupt
from app.records.chunks import BatchWork
from app.records.claims import Claim, claim_of
from app.records.connection import POLL_SECONDS, Store
from app.records.contexts import Contexts
from app.records.figures import Figures, read_figures
from app.records.files import ArtifactsUnavailable
from app.records.garbage import Garbage, writer
from app.records.idempotency import IdempotencyKeys
from app.records.imports import Imports
from app.records.jobs import Jobs
from app.records.limits import QueueLimits, Retention
from app.records.requirements import take_up
from app.records.rows import FORMAT, row_of
from app.records.uploads import Uploads, written_for
from app.records.usage import Usage
from app.records.webhooks import Outbox, Webhooks

_LEASE_MS: Final = int(LEASE_SECONDS * 1000)
#: A long job is set aside once its lease was held for so long, if a short one has waited for so long (milliseconds).
_HELD_MS: Final = 30_000
_WAITED_MS: Final = 2_000
#: Jobs that a sweep requeues, or removes, at a time.
_BATCH: Final = 100

Fields = dict[str, str | int | float]


@dataclass(frozen=True)
class JobRef:
    """A job among those of all tenants."""

    tenant: str
    id: str


@dataclass(frozen=True)
class TenantRecords:
    """All that the users of one tenant may see and change."""

    tenant: str
    contexts: Contexts
    jobs: Jobs
    batches: Batches
    uploads: Uploads
    imports: Imports
    idempotency: IdempotencyKeys
    webhooks: Webhooks
    audit: AuditLog
    usage: Usage


class Records:
    """The records in the store behind ``client`` (from `connect`).

    Bodies, such as examples and reports, are files below the fsspec URL ``artifacts_url``, which all processes share;
    they are in memory where there is no process but this one.
    """

    def __init__(
        self,
        client: redis.Redis,
        limits: QueueLimits | None = None,
        retention: Retention | None = None,
        artifacts_url: str = "memory://contextune",
    ) -> None:
        self._store = Store(client, take_up)
        self._artifacts_url = artifacts_url
        self._bodies = Bodies(artifacts_url)
        self._limits = limits or QueueLimits()
        self._retention = retention or Retention()
        self.batch_work = BatchWork(self._store, self._bodies, self._retention.usage)
        self.garbage = Garbage(self._store, self._retention.unreferenced)
        self.outbox = Outbox(self._store, self._retention.deliveries)
        self.access = AccessRecords(self._store)

    def of(self, tenant: str) -> TenantRecords:
        """The records of a tenant, the only ones that its users may see."""
        store, keep = self._store, self._retention
        jobs = Jobs(store, self._bodies, tenant, keep.batches)
        contexts = Contexts(store, self._bodies, tenant, self._limits, keep)
        return TenantRecords(
            tenant,
            contexts,
            jobs,
            Batches(store, self._artifacts_url, tenant, self._limits, jobs),
            Uploads(store, self._artifacts_url, tenant),
            Imports(store, tenant, contexts),
            IdempotencyKeys(store, tenant, keep.idempotency),
            Webhooks(store, tenant),
            AuditLog(store, tenant, keep.audit),
            Usage(store, tenant, keep.usage),
        )

    def figures(self, models: Sequence[str]) -> Figures:
        """The queues of ``models`` now, of all tenants."""
        return read_figures(self._store, models)

    def take_up(self) -> None:
        """Check the store before it is used, as its first use does too.

        Raises `StoreRefused`, a kind of `StoreUnavailable`, for one that must not be used.
        """
        self._store.take_up()

    def ping(self) -> None:
        """Return when the store answers."""
        self._store.ping()

    # -- what workers do ---------------------------------------------------------------------------------------------

    def claim(self, models: Sequence[str], worker_id: str) -> Claim | None:
        """Take a queued job of ``models`` under a lease of `LEASE_SECONDS`; None when there is none.

        Tenants are served in turn, the jobs of each in their order. A job whose record cannot be read fails. Raises
        `ArtifactsUnavailable` when its examples cannot be read now; the job is queued again then.
        """
        answer = self._store.run("claim", worker_id, _LEASE_MS, FORMAT, *models)
        if not answer:
            return None
        tenant, job_id, flat, needed = cast("tuple[str, str, list[str], str | None]", answer)
        row = row_of(flat)
        try:
            return claim_of(tenant, job_id, row, needed, self._bodies)
        except ArtifactsUnavailable:
            self._store.run("release", tenant, job_id, int(row["fence"]), "")
            raise
        except (ValidationError, KeyError, BodyCorrupt) as error:
            structlog.get_logger().error("record_unreadable", job_id=job_id, kind=type(error).__name__)
            reason = JobError(code=ErrorCode.INTERNAL, message="its record cannot be read")
            self._finish(tenant, job_id, int(row["fence"]), JobStatus.FAILED, error=reason)
            return None

    def beat(
        self,
        claim: Claim,
        fields: Fields | None = None,
        remaining_seconds: float | None = None,
        metrics: dict[str, Any] | None = None,
    ) -> str:
        """Prolong the lease and note progress. Returns ``held``, ``cancel`` (held, but to be ended) or ``lost``.

        ``metrics`` become an event of the job; such events are thinned to 200.
        """
        remaining = "" if remaining_seconds is None else int(remaining_seconds * 1000)
        data = json.dumps(metrics) if metrics else ""
        flat = [part for pair in (fields or {}).items() for part in pair]
        return str(self._store.run("beat", claim.tenant, claim.job_id, claim.fence, _LEASE_MS, remaining, data, *flat))

    def message(
        self, claim: Claim, message: str, data: dict[str, Any] | None = None, level: Literal["info", "warning"] = "info"
    ) -> str:
        """Append a message to the job's events. Returns ``held`` or ``lost``."""
        content = json.dumps(data or {})
        return str(self._store.run("message", claim.tenant, claim.job_id, claim.fence, level, message, content))

    def finish_succeeded(
        self,
        claim: Claim,
        artifact: str,
        report: Report,
        fields: Fields,
        artifact_bytes: int = 0,
        encoder: str | None = None,
    ) -> str:
        """End a job with its result. Returns the final status, ``cancelled`` if that was asked for, or ``lost``.

        ``encoder`` is the hash of the sentence encoder that the artifact needs.
        Raises what the file system raises that is to hold the report; the job is as before then.
        """
        content = report.model_dump_json()
        address = self._bodies.address(content)
        while self.begin_write(claim, address) == "wait":
            time.sleep(POLL_SECONDS)  # a file with the same content is being removed
        self._bodies.put(content)
        scores = Scores.model_validate(report.model_dump(include=set(Scores.model_fields)))
        context: Fields = {"artifact": artifact, "report": address, "scores": scores.model_dump_json()}
        context["encoder"] = encoder or ""
        context["bytes"] = artifact_bytes + len(content.encode())
        ended = self._finish(claim.tenant, claim.job_id, claim.fence, JobStatus.SUCCEEDED, None, fields, context)
        if ended != JobStatus.SUCCEEDED and self.end_write(claim, address):
            self._bodies.remove(address)
            self.removed(claim, address)
        return ended

    def finish_failed(self, claim: Claim, error: JobError) -> str:
        """End a job with a reason. Returns the final status or ``lost``."""
        return self._finish(claim.tenant, claim.job_id, claim.fence, JobStatus.FAILED, error)

    def finish_cancelled(self, claim: Claim) -> str:
        """End a job as its user asked. Returns the final status or ``lost``."""
        return self._finish(claim.tenant, claim.job_id, claim.fence, JobStatus.CANCELLED)

    def _finish(
        self,
        tenant: str,
        job_id: str,
        fence: int,
        status: JobStatus,
        error: JobError | None = None,
        job: Fields | None = None,
        context: Fields | None = None,
    ) -> str:
        reason = error.model_dump_json() if error else ""
        rows = json.dumps(job or {}), json.dumps(context or {})
        return str(self._store.run("finish", tenant, job_id, fence, status, reason, *rows))

    def release(self, claim: Claim) -> str:
        """Give a job back to the queue uncounted. Returns ``released``, ``cancelled`` (if asked for) or ``lost``."""
        return str(self._store.run("release", claim.tenant, claim.job_id, claim.fence, ""))

    def retry(self, claim: Claim, error: JobError) -> str:
        """Put a job back into the queue after an attempt that failed, or fail it after too many without progress.

        Returns ``released``, ``failed``, ``cancelled`` (if asked for) or ``lost``.
        """
        return str(self._store.run("release", claim.tenant, claim.job_id, claim.fence, error.model_dump_json()))

    def park(self, claim: Claim, remaining_seconds: float) -> str:
        """Set a long job aside, uncounted, if a job that needs less than half as long has waited for 2 s.

        Returns ``parked``, ``held``, ``cancel`` (held, but to be ended) or ``lost``.
        """
        times = _HELD_MS, _WAITED_MS, int(remaining_seconds * 1000)
        return str(self._store.run("park", claim.tenant, claim.job_id, claim.fence, *times))

    # -- files -------------------------------------------------------------------------------------------------------

    def begin_write(self, claim: Claim, address: str) -> str:
        """Note that a job writes a file, before it does; whoever refers to it does so in `finish_succeeded`.

        Returns ``go``, ``wait`` while a file with this address is being removed, or ``lost``.
        """
        return str(self._store.run("begin_write", claim.tenant, claim.job_id, claim.fence, address))

    def end_write(self, claim: Claim, address: str) -> bool:
        """Give up a file that no row refers to; whether the caller must remove it, and call `removed` then."""
        return bool(self._store.run("end_write", claim.tenant, claim.job_id, claim.fence, address))

    def removed(self, claim: Claim, address: str) -> None:
        """Note that a file is gone that `end_write` left to the caller."""
        self._store.run("collected", writer(claim.tenant, claim.job_id, claim.fence), address)

    def written_for(self, request_id: str, address: str) -> AbstractContextManager[None]:
        """Write within an upload that a gateway asked for; it is removed at the end where the gateway gave up."""
        return written_for(self._store, self._artifacts_url, request_id, address)

    def let_go(self, claim: Claim) -> bool:
        """Note that a worker that lost a job writes nothing for it any more; whether the job has ended elsewhere."""
        return bool(self._store.run("let_go", claim.tenant, claim.job_id, claim.context_id, claim.fence))

    # -- what sweeps do ----------------------------------------------------------------------------------------------

    def sweep(self) -> dict[JobRef, JobStatus]:
        """Requeue, or fail after `MAX_ATTEMPTS` without progress, the jobs whose lease is overdue."""
        error = JobError(code=ErrorCode.WORKER_LOST, message=f"its worker was lost {MAX_ATTEMPTS} times in a row")
        changed = cast("list[str]", self._store.run("sweep", error.model_dump_json(), _BATCH, _LEASE_MS, FORMAT))
        return {_ref(one): JobStatus(status) for one, status in zip(changed[::2], changed[1::2], strict=True)}

    def retire(self) -> int:
        """Remove jobs, with their events, that ended longer ago than they are kept: some; returns how many.

        `Garbage.removals` finds the batches among them, whose files are still there.
        """
        kept = int(self._retention.jobs * 1000), int(self._retention.batches * 1000)
        return int(self._store.run("retire", *kept, _BATCH, FORMAT))


def _ref(member: str) -> JobRef:
    tenant, _, job_id = member.partition(":")
    return JobRef(tenant, job_id)
