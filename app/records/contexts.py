"""The contexts of a tenant: submit, find, list, change, delete, and the aliases of their versions."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, cast

from app.contract.names import JobKind, JobStatus
from app.contract.objects import Job, Report
from app.contract.tuning import Plan, TuningSpec
from app.records.bodies import Bodies, BodyCorrupt
from app.records.connection import Store, StoreUnavailable, new_id
from app.records.files import FilesKept
from app.records.garbage import FilesLeft, new_remover, removal_end
from app.records.idempotency import Answered, ClaimLost
from app.records.limits import QueueLimits, Retention
from app.records.lists import ContextFilter, Page, read_page
from app.records.rows import (
    FORMAT,
    NamedContext,
    StoredContext,
    context_from_row,
    job_from_row,
    labels_field,
    metadata_field,
    refuse_newer,
    row_of,
    tolerant,
)
from app.records.specs import SpecFile, Specs

#: A bare name, its version, or its alias.
_SELECTOR: Final = re.compile(r"|[1-9][0-9]{0,14}|[a-z][a-z0-9._-]{0,63}")
MAX_METADATA: Final = 16

#: What a tenant may have too much of, as the scripts call it.
_QUOTAS: Final = {"jobs": "queued jobs", "contexts": "contexts", "artifact_bytes": "bytes of artifacts"}


class QueueFull(Exception):
    """As many jobs are queued as the store takes."""

    def __init__(self) -> None:
        super().__init__("too many jobs are queued")


class QuotaReached(Exception):
    """The tenant has as much of ``what``, a word of the scripts, as it may have; whether time alone ``passes`` that."""

    def __init__(self, what: str) -> None:
        super().__init__(f"this tenant has as many {_QUOTAS[what]} as it may have")
        self.passes = what == "jobs"


class TenantGone(Exception):
    """The tenant was deleted while a request of it was on its way."""


class ContextInUse(Exception):
    """A context cannot be deleted while an ``alias`` points at it, or a ``batch`` that has not ended needs it."""

    def __init__(self, by: Literal["alias", "batch"]) -> None:
        super().__init__(by)
        self.by = by


class TooMuchMetadata(Exception):
    """A context would have more than `MAX_METADATA` keys of metadata."""


@dataclass(frozen=True)
class Submission:
    """A context to be created and the job that tunes it."""

    name: str | None
    model: str
    spec: TuningSpec
    plan: Plan
    metadata: dict[str, str]
    #: The file of ``spec``, if it was written for this context already.
    file: SpecFile | None = None
    #: Of the HTTP request, for the log of the worker that runs the job.
    request_id: str = ""


@dataclass(frozen=True)
class Deletion:
    """What a deleted context leaves to be removed: its job's checkpoint, if it had a job, and files.

    Its worker may write while there is to be waited, unless it lets go before.
    """

    job_id: str
    files: FilesLeft


@dataclass(frozen=True)
class AliasMoved:
    """An alias points at the version now; ``before`` is where it pointed, None if it is new."""

    before: int | None


@dataclass(frozen=True)
class AliasRefused:
    """Why an alias was not moved: ``changed`` (it points elsewhere), ``unknown``, or the version's status."""

    reason: Literal["changed", "unknown"] | JobStatus


class Contexts:
    """The contexts of a tenant. Every method raises `StoreUnavailable`, those that read one `NewerFormat`."""

    def __init__(self, store: Store, bodies: Bodies, tenant: str, limits: QueueLimits, retention: Retention) -> None:
        self._store = store
        self._bodies = bodies
        self._tenant = tenant
        self.specs = Specs(store, bodies, tenant)
        self._limits = limits
        self._retention = retention

    def submit(
        self, submission: Submission, answered: Answered | None = None, ids: tuple[str, str] | None = None
    ) -> tuple[StoredContext, Job]:
        """Create a context and its queued job, both or neither, with the ``ids`` where those are given.

        ``answered`` is kept under its idempotency key by the same script. Raises `QueueFull`, `QuotaReached`,
        `TenantGone` and `ClaimLost`.
        """
        context_id, job_id = ids or (new_id("ctx"), new_id("job"))
        if submission.file is None:
            with self.specs.written(context_id, submission.spec) as file:
                return self.submit(replace(submission, file=file), answered, (context_id, job_id))
        outcome = self._store.run(
            "submit",
            self._tenant,
            context_id,
            job_id,
            submission.file.address,
            self._limits.all,
            self._limits.tenant,
            json.dumps({**_context_fields(submission, job_id), "bytes": submission.file.bytes}),
            json.dumps(_job_fields(submission, context_id)),
            answered.as_json() if answered else "null",
        )
        if outcome == "lost":
            raise ClaimLost
        if outcome == "gone":
            raise TenantGone
        if outcome == "overloaded":
            raise QueueFull
        if outcome != "created":
            raise QuotaReached(outcome)
        context, row = self.get(context_id), self._store.run("get_job", self._tenant, job_id)
        if context is None or not row:
            raise StoreUnavailable("the context was deleted as it was created")
        return context, job_from_row(job_id, row_of(row))

    def get(self, context_id: str) -> StoredContext | None:
        """The context with this id, with its report."""
        return self._resolve(context_id, "", "", report=True)

    def resolve(self, ref: str, *, report: bool = True) -> StoredContext | None:
        """The context of a ref: an id, ``name``, ``name@version`` or ``name@alias``; its ``report``, which can be long.

        A bare name, and ``name@latest``, is its highest version that succeeded, or its newest while none has.
        """
        if ref.startswith("ctx_"):
            return self._resolve(ref, "", "", report=report)
        name, at, selector = ref.partition("@")
        if (at and not selector) or not _SELECTOR.fullmatch(selector):
            return None
        return self._resolve("", name, selector, report=report)

    def _resolve(self, context_id: str, name: str, selector: str, *, report: bool) -> StoredContext | None:
        found = self._store.run("resolve", self._tenant, context_id, name, selector)
        if not found:
            return None
        one, flat, pending = cast("tuple[str, list[str], str | None]", found)
        row = row_of(flat)
        refuse_newer("context", one, row)
        address = row.get("report") if report else None
        try:
            stored = tolerant(Report, self._bodies.get(address)) if address else None
        except BodyCorrupt:
            if self._store.run("resolve", self._tenant, one, "", ""):
                raise
            return self._resolve(context_id, name, selector, report=report)  # it was deleted meanwhile
        return context_from_row(one, row, stored, pending)

    def page(self, limit: int, after: str | None = None, wanted: ContextFilter | None = None) -> Page[StoredContext]:
        """A page of contexts, newest first, without their reports but for the scores. Raises `UnknownCursor`."""
        indexes = (wanted or ContextFilter()).indexes
        return read_page(self._store, self._tenant, "context", indexes, limit, after, context_from_row)

    def named(self, most: int) -> list[NamedContext]:
        """The names with a version that can answer, those of the newest such contexts first."""
        found = json.loads(self._store.run("named", self._tenant, most, FORMAT))
        return [NamedContext.of(one) for one in found]

    def patch_metadata(self, context_id: str, changes: dict[str, str | None]) -> bool:
        """Set keys of a context's metadata, or remove them with None; False if there is no such context.

        Raises `TooMuchMetadata`.
        """
        outcome = self._store.run("patch_metadata", self._tenant, context_id, json.dumps(changes), MAX_METADATA)
        if outcome == "too_many":
            raise TooMuchMetadata
        return bool(outcome)

    def delete(self, context_id: str, before: Deletion | None = None) -> Deletion | None:
        """Forget a context and cancel its job; None if there is no such context. Raises `ContextInUse`.

        It is deleted once its files are gone and `deleted` says so; asked again before that, with the answer
        ``before``, the answer names those that are left. Raises `FilesKept` while a backup is made.
        """
        remover, until = before.files.remover if before else new_remover(), removal_end()
        keep_name_ms = int(self._retention.names * 1000)
        outcome = self._store.run("delete_context", self._tenant, context_id, keep_name_ms, remover)
        if outcome in ("aliased", "in_batch", "backup"):
            raise FilesKept if outcome == "backup" else ContextInUse("alias" if outcome == "aliased" else "batch")
        if not outcome:
            return None
        return Deletion(outcome[0], FilesLeft(remover, until, outcome[1] / 1000, tuple(outcome[2])))

    def deleted(self, context_id: str, files: FilesLeft, gone: Sequence[str]) -> bool:
        """Note that files of a deleted context are ``gone``; whether all are, and its deletion has ended."""
        return bool(self._store.run("context_deleted", self._tenant, context_id, files.remover, *gone))

    def leave(self, files: FilesLeft) -> None:
        """Leave files that were not removed to whoever deletes the context again."""
        self._store.run("collected", files.remover, *files.addresses)

    def set_alias(self, name: str, alias: str, version: int, expected: int | None = None) -> AliasMoved | AliasRefused:
        """Let an alias point at a version that succeeded, if it points at the ``expected`` one now where given."""
        outcome = self._store.run("set_alias", self._tenant, name, alias, version, expected or "")
        if outcome in ("changed", "unknown"):
            return AliasRefused(outcome)
        if outcome in set(JobStatus):
            return AliasRefused(JobStatus(outcome))
        return AliasMoved(int(outcome) if outcome else None)

    def delete_alias(
        self, name: str, alias: str, expected: int | None = None
    ) -> Literal["deleted", "changed", "unknown"]:
        """Remove an alias, if it points at the ``expected`` version now where that is given."""
        outcome = self._store.run("delete_alias", self._tenant, name, alias, expected or "")
        return cast('Literal["deleted", "changed", "unknown"]', outcome)


def _context_fields(submission: Submission, job_id: str) -> dict[str, str | int]:
    return {
        "format": FORMAT,
        "name": submission.name or "",
        "model": submission.model,
        "labels": labels_field(submission.spec.label_names),
        "job_id": job_id,
        "tokens": submission.plan.context_tokens,
        "metadata": metadata_field(submission.metadata),
        "hyperparameters": submission.plan.hyperparameters.model_dump_json(),
    }


def _job_fields(submission: Submission, context_id: str) -> dict[str, str | int | float]:
    plan = submission.plan
    return {
        "format": FORMAT,
        "kind": JobKind.TUNING,
        "request_id": submission.request_id,
        "context_id": context_id,
        "model": submission.model,
        "hyperparameters": plan.hyperparameters.model_dump_json(),
        "estimate": max(1, int(plan.estimated_seconds * 1000)),
        "step": 0,
        "total_steps": plan.total_steps,
        "fraction": 0.0,
    }
