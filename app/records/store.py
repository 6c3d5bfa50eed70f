"""`Records`: the one door to the durable records.

Synchronous redis-py; used by the gateway (from threads) and by the worker. It knows nothing of HTTP or of the bus.
Every method raises `StoreUnavailable` when the store does not answer within its deadline; a change is then either whole
or absent, and all changes may be repeated safely.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from app.contract.names import LEASE, MAX_ATTEMPTS, ErrorCode, JobStatus
from app.contract.objects import Job, JobError, Metrics
from app.contract.tuning import Plan, ResolvedHyperparameters, TuningSpec
from app.records import scripts
from app.records.rows import (
    CONTEXT_FIELDS,
    StoredContext,
    context_from_rows,
    job_from_row,
    labels_field,
    metadata_field,
)

_T = TypeVar("_T")
_PAGE: Final = 100
_VERSION: Final = re.compile(r"[1-9][0-9]{0,14}")
_LEASE_MS: Final = int(LEASE * 1000)


class StoreUnavailable(Exception):
    """The store did not answer, or refused to write, within the deadline."""


class UnknownEntry(Exception):
    """A list cannot go on after an id that is not in it."""


@dataclass(frozen=True)
class Submission:
    """A context to be created and the job that tunes it."""

    name: str | None
    model: str
    spec: TuningSpec
    plan: Plan
    metadata: dict[str, str]


@dataclass(frozen=True)
class Claim:
    """A job that this worker may run while it keeps beating; ``fence`` proves it."""

    job_id: str
    context_id: str
    model: str
    fence: int
    attempt: int
    hyperparameters: ResolvedHyperparameters
    spec: TuningSpec


def connect(url: str) -> redis.Redis:
    """A client of the store with bounded waits (5 s, tried twice) and a bounded pool that queues instead of raising."""
    pool = redis.BlockingConnectionPool.from_url(
        url,
        max_connections=64,
        timeout=5,
        decode_responses=True,
        socket_timeout=5,
        socket_connect_timeout=5,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 1),
    )
    return redis.Redis(connection_pool=pool)


def new_id(kind: str) -> str:
    """A fresh id such as ``ctx_…``: 96 random bits."""
    return f"{kind}_{secrets.token_hex(12)}"


@contextmanager
def _store_errors() -> Iterator[None]:
    try:
        yield
    except (
        redis.ConnectionError,
        redis.TimeoutError,
        redis.exceptions.OutOfMemoryError,
        redis.exceptions.ReadOnlyError,
    ) as error:
        raise StoreUnavailable(str(error)) from error
    except redis.ResponseError as error:
        if str(error).startswith(("MISCONF", "NOREPLICAS")):
            raise StoreUnavailable(str(error)) from error
        raise


def _flat(fields: dict[str, str | int | float]) -> list[str | int | float]:
    return [part for pair in fields.items() for part in pair]


class Records:
    """Contexts and jobs in the store behind ``client`` (from `connect`)."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._scripts: dict[str, Any] = {}

    def _run(self, script: str, *args: str | int | float) -> Any:
        if script not in self._scripts:
            self._scripts[script] = self._client.register_script(script)
        with _store_errors():
            return self._scripts[script](args=args)

    def ping(self) -> None:
        """Return when the store answers."""
        with _store_errors():
            self._client.ping()

    # -- what users ask for ------------------------------------------------------------------------------------------

    def submit(self, submission: Submission) -> tuple[StoredContext, Job]:
        """Create a context and its queued job, both or neither."""
        context_id, job_id = new_id("ctx"), new_id("job")
        spec, plan = submission.spec, submission.plan
        context_fields = _flat(
            {
                "name": submission.name or "",
                "model": submission.model,
                "labels": labels_field(spec.label_names),
                "job_id": job_id,
                "tokens": plan.context_tokens,
                "metadata": metadata_field(submission.metadata),
            }
        )
        job_fields = _flat(
            {
                "context_id": context_id,
                "model": submission.model,
                "hyperparameters": plan.hyperparameters.model_dump_json(),
                "step": 0,
                "total_steps": plan.total_steps,
                "fraction": 0.0,
                "fence": 0,
            }
        )
        self._run(
            scripts.SUBMIT,
            context_id,
            job_id,
            submission.name or "",
            spec.model_dump_json(),
            int(plan.estimated_seconds * 1000),
            len(context_fields),
            *context_fields,
            *job_fields,
        )
        context, job = self.context(context_id), self.job(job_id)
        if context is None or job is None:
            raise StoreUnavailable("the context was deleted as it was created")
        return context, job

    def cancel(self, job_id: str) -> JobStatus | None:
        """Ask for the end of a job: at once when queued, within a step when running. Returns the status before."""
        status = self._run(scripts.CANCEL, job_id)
        return JobStatus(status) if status else None

    def delete(self, context_id: str) -> str | None:
        """Forget a context and cancel its job. Returns its artifact's address ('' without one), None if unknown."""
        return cast("str | None", self._run(scripts.DELETE, context_id))

    def context(self, context_id: str) -> StoredContext | None:
        """The context with this id."""
        return self._resolve(context_id, "", "", CONTEXT_FIELDS)

    def resolve(self, ref: str, *, metrics: bool = True) -> StoredContext | None:
        """The context of a ref: an id, ``name@version``, or ``name``; its ``metrics`` too, which can be long.

        A bare name means its newest version that can answer, or its newest while none can.
        """
        fields = [name for name in CONTEXT_FIELDS if metrics or name != "metrics"]
        if ref.startswith("ctx_"):
            return self._resolve(ref, "", "", fields)
        name, at, version = ref.partition("@")
        if at and not _VERSION.fullmatch(version):
            return None
        return self._resolve("", name, version, fields)

    def _resolve(self, context_id: str, name: str, version: str, fields: Sequence[str]) -> StoredContext | None:
        found = self._run(scripts.RESOLVE, context_id, name, version, *fields)
        if not found:
            return None
        one, status, values = cast("tuple[str, str, list[str | None]]", found)
        row = {field: value for field, value in zip(fields, values, strict=True) if value is not None}
        return context_from_rows(one, row, status)

    def job(self, job_id: str) -> Job | None:
        """The job with this id."""
        return next(iter(self._jobs([job_id])), None)

    def contexts(self, limit: int, after: str | None, keep: Callable[[StoredContext], bool]) -> list[StoredContext]:
        """Up to ``limit`` contexts that ``keep`` accepts, newest first, older than ``after``.

        Raises `UnknownEntry` if there is no context ``after``.
        """
        return self._list("ct:contexts", self._contexts, limit, after, keep)

    def jobs(self, limit: int, after: str | None, keep: Callable[[Job], bool]) -> list[Job]:
        """Up to ``limit`` jobs that ``keep`` accepts, newest first, older than ``after``.

        Raises `UnknownEntry` if there is no job ``after``.
        """
        return self._list("ct:jobs", self._jobs, limit, after, keep)

    def _list(
        self,
        index: str,
        load: Callable[[Sequence[str]], list[_T]],
        limit: int,
        after: str | None,
        keep: Callable[[_T], bool],
    ) -> list[_T]:
        kept: list[_T] = []
        upper: float | str = "+inf"
        with _store_errors():
            if after is not None:
                score = self._client.zscore(index, after)
                if score is None:
                    raise UnknownEntry(after)
                upper = f"({score:.0f}"
            while len(kept) < limit:
                page = self._client.zrevrangebyscore(index, upper, "-inf", start=0, num=_PAGE, withscores=True)
                rows = cast("list[tuple[str, float]]", page)
                if not rows:
                    break
                kept.extend(item for item in load([member for member, _ in rows]) if keep(item))
                upper = f"({rows[-1][1]:.0f}"
        return kept[:limit]

    def _rows(self, kind: str, ids: Sequence[str]) -> list[dict[str, str]]:
        with _store_errors():
            pipeline = self._client.pipeline(transaction=False)
            for one in ids:
                pipeline.hgetall(f"ct:{kind}:{one}")
            return cast("list[dict[str, str]]", pipeline.execute())

    def _jobs(self, ids: Sequence[str]) -> list[Job]:
        return [job_from_row(one, row) for one, row in zip(ids, self._rows("job", ids), strict=True) if row]

    def _contexts(self, ids: Sequence[str]) -> list[StoredContext]:
        # Statuses are read first: a context that has its artifact by then is at worst reported as still running.
        with _store_errors():
            pipeline = self._client.pipeline(transaction=False)
            for one in ids:
                pipeline.hget(f"ct:context:{one}", "job_id")
            jobs = cast("list[str | None]", pipeline.execute())
        statuses = [row.get("status", "") for row in self._rows("job", [job or "" for job in jobs])]
        rows = zip(ids, self._rows("context", ids), statuses, strict=True)
        return [context_from_rows(one, row, status) for one, row, status in rows if row and status]

    # -- what workers do ---------------------------------------------------------------------------------------------

    def claim(self, models: Sequence[str], worker_id: str) -> Claim | None:
        """Take the oldest queued job of ``models`` under a lease of `LEASE` seconds; None when there is none."""
        answer = self._run(scripts.CLAIM, worker_id, _LEASE_MS, *models)
        if not answer:
            return None
        job_id, fields, spec = cast("tuple[str, list[str], str | None]", answer)
        row = dict(zip(fields[::2], fields[1::2], strict=True))
        fence = int(row["fence"])
        if spec is None:  # the context was deleted between the claim and this read
            self.finish_cancelled(job_id, fence)
            return None
        return Claim(
            job_id=job_id,
            context_id=row["context_id"],
            model=row["model"],
            fence=fence,
            attempt=int(row["attempt"]),
            hyperparameters=ResolvedHyperparameters.model_validate_json(row["hyperparameters"]),
            spec=TuningSpec.model_validate_json(spec),
        )

    def beat(
        self,
        job_id: str,
        fence: int,
        fields: dict[str, str | int | float] | None = None,
        remaining_seconds: float | None = None,
    ) -> str:
        """Prolong the lease and note progress. Returns ``held``, ``cancel`` (held, but to be ended) or ``lost``."""
        remaining = "" if remaining_seconds is None else int(remaining_seconds * 1000)
        return cast("str", self._run(scripts.BEAT, job_id, fence, _LEASE_MS, remaining, *_flat(fields or {})))

    def finish_succeeded(
        self, job_id: str, fence: int, artifact: str, metrics: Metrics, fields: dict[str, str | int | float]
    ) -> str:
        """End a job with its result. Returns the final status, ``cancelled`` if that was asked for, or ``lost``."""
        ending = (JobStatus.SUCCEEDED, "", artifact, metrics.model_dump_json())
        return cast("str", self._run(scripts.FINISH, job_id, fence, *ending, *_flat(fields)))

    def finish_failed(self, job_id: str, fence: int, error: JobError) -> str:
        """End a job with a reason. Returns the final status or ``lost``."""
        ending = (JobStatus.FAILED, error.model_dump_json(), "", "")
        return cast("str", self._run(scripts.FINISH, job_id, fence, *ending))

    def finish_cancelled(self, job_id: str, fence: int) -> str:
        """End a job as its user asked. Returns the final status or ``lost``."""
        return cast("str", self._run(scripts.FINISH, job_id, fence, JobStatus.CANCELLED, "", "", ""))

    def release(self, job_id: str, fence: int) -> str:
        """Give a job back to the queue uncounted. Returns ``released``, ``cancelled`` (if asked for) or ``lost``."""
        return cast("str", self._run(scripts.RELEASE, job_id, fence, 0))

    def retry(self, job_id: str, fence: int) -> str:
        """Put a job back into the queue after an attempt that failed. Returns ``released`` or ``lost``."""
        return cast("str", self._run(scripts.RELEASE, job_id, fence, 1))

    def sweep(self) -> dict[str, JobStatus]:
        """Requeue, or fail after `MAX_ATTEMPTS`, the jobs whose lease is overdue; returns what changed."""
        error = JobError(code=ErrorCode.WORKER_LOST, message=f"its worker was lost {MAX_ATTEMPTS} times")
        changed = cast("list[str]", self._run(scripts.SWEEP, MAX_ATTEMPTS, error.model_dump_json(), 100, _LEASE_MS))
        return dict(zip(changed[::2], map(JobStatus, changed[1::2]), strict=True))
