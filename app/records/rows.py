"""Between the store's flat rows of strings and the objects of the contract.

Rows carry the format that they were written in. A reader ignores fields that it does not know and fills in those that
are missing; a row of a newer format than `FORMAT` is refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from pydantic import BaseModel, TypeAdapter

from app.contract.batches import Batch, Counts
from app.contract.names import ErrorCode, JobKind, JobStatus
from app.contract.objects import Context, Event, Job, JobError, Progress, Report, Scores
from app.contract.tuning import ResolvedHyperparameters

_LABELS: TypeAdapter[tuple[str, ...]] = TypeAdapter(tuple[str, ...])
_METADATA: TypeAdapter[dict[str, str]] = TypeAdapter(dict[str, str])
_M = TypeVar("_M", bound=BaseModel)

#: The newest format of a row that this program reads, and the one that it writes.
FORMAT: Final = 1

Row = Mapping[str, str]


class NewerFormat(Exception):
    """A row was written by a newer release, in a format that this one does not know."""

    def __init__(self, kind: str, row_id: str) -> None:
        super().__init__(f"{kind} {row_id} was written by a newer release of Contextune")


@dataclass(frozen=True)
class StoredContext:
    """A context with what only the service needs to know.

    ``artifact`` is the address of its artifact, None before success. ``pending_job`` is the job that a bare name waits
    for while none of its versions has succeeded.
    """

    context: Context
    artifact: str | None
    pending_job: str | None = None


@dataclass(frozen=True)
class NamedContext:
    """What a name stands for: of its highest version that succeeded, what a list of names tells."""

    name: str
    model: str
    labels: tuple[str, ...]
    metadata: dict[str, str]
    created_at: datetime

    @classmethod
    def of(cls, found: Sequence[Any]) -> NamedContext:
        """What the script tells of a name."""
        name, model, labels, metadata, created_at = found
        return cls(name, model, tuple(labels), metadata, time_of(created_at))


def row_of(flat: Sequence[str]) -> dict[str, str]:
    """The row that a script returned as alternating names and values."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def tolerant(model: type[_M], text: str) -> _M:
    """What another release may have stored: fields that are not known are ignored."""
    return model.model_validate_json(text, extra="ignore")


def labels_field(labels: tuple[str, ...]) -> str:
    """Labels as stored."""
    return _LABELS.dump_json(labels).decode()


def metadata_field(metadata: dict[str, str]) -> str:
    """Metadata as stored."""
    return _METADATA.dump_json(metadata).decode()


def refuse_newer(kind: str, row_id: str, row: Row) -> None:
    """Raise `NewerFormat` for a row that this program cannot read."""
    if int(row.get("format", FORMAT)) > FORMAT:
        raise NewerFormat(kind, row_id)


def time_of(milliseconds: str | int) -> datetime:
    """A time as stored."""
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)


def optional_time(row: Row, name: str) -> datetime | None:
    """A time of a row, None where there is none."""
    return time_of(row[name]) if row.get(name) else None


def _error(row: Row) -> JobError | None:
    if not row.get("error"):
        return None
    stored = json.loads(row["error"])
    code = stored.get("code") if stored.get("code") in set(ErrorCode) else ErrorCode.INTERNAL
    return JobError(code=code, message=stored.get("message", ""))


def _hyperparameters(row: Row) -> ResolvedHyperparameters | None:
    stored = row.get("hyperparameters")
    return tolerant(ResolvedHyperparameters, stored) if stored else None


def context_from_row(
    context_id: str, row: Row, report: Report | None = None, pending_job: str | None = None
) -> StoredContext:
    """The context of a row; without its ``report`` only the scores are known of it. Raises `NewerFormat`."""
    refuse_newer("context", context_id, row)
    scores = tolerant(Scores, row["scores"]) if row.get("scores") else None
    context = Context(
        id=context_id,
        name=row.get("name") or None,
        version=int(row["version"]),
        aliases=_LABELS.validate_json(row.get("aliases") or "[]"),
        model=row["model"],
        encoder=row.get("encoder") or None,
        labels=_LABELS.validate_json(row["labels"]),
        status=JobStatus(row["status"]),
        error=_error(row),
        job_id=row["job_id"] or None,
        hyperparameters=_hyperparameters(row),
        tokens=int(row["tokens"]),
        report=report or scores,
        metadata=_METADATA.validate_json(row.get("metadata") or "{}"),
        created_at=time_of(row["created_at"]),
        finished_at=optional_time(row, "finished_at"),
    )
    return StoredContext(context, row.get("artifact") or None, pending_job)


def job_from_row(job_id: str, row: Row, report: Report | None = None, keep_batches_seconds: float = 0) -> Job:
    """The job of a row, a `Batch` with its ``report`` if it is one. A parked one runs, as its user sees it.

    Raises `NewerFormat`.
    """
    refuse_newer("job", job_id, row)
    if row.get("kind") != JobKind.BATCH:
        return Job(**_job_fields(job_id, row))
    finished = optional_time(row, "finished_at")
    return Batch(
        **_job_fields(job_id, row),
        counts=Counts(total=int(row["total"]), done=int(row["done"]), failed=int(row["failed"])),
        expires_at=finished + timedelta(seconds=keep_batches_seconds) if finished else None,
        report=report,
    )


def _job_fields(job_id: str, row: Row) -> dict[str, Any]:
    status = JobStatus("running" if row["status"] == "parked" else row["status"])
    return {
        "id": job_id,
        "kind": JobKind(row.get("kind", JobKind.TUNING)),
        "context_id": row["context_id"],
        "model": row["model"],
        "status": status,
        "terminal": status.terminal,
        "created_at": time_of(row["created_at"]),
        "started_at": optional_time(row, "started_at"),
        "finished_at": optional_time(row, "finished_at"),
        "estimated_finish_at": None if status.terminal else optional_time(row, "estimated_finish_at"),
        "progress": Progress(
            step=int(row.get("step", 0)),
            total_steps=int(row.get("total_steps", 0)),
            fraction=float(row.get("fraction", 0)),
        ),
        "attempt": int(row.get("attempt", 0)),
        "hyperparameters": _hyperparameters(row),
        "trained_tokens": int(row.get("trained_tokens", 0)),
        "error": _error(row),
        "cancel_requested": row.get("cancel_requested") == "1",
    }


def event_from(text: str) -> Event:
    """The event of an entry in a job's list."""
    entry: list[Any] = json.loads(text)
    event_id, kind, level, created_at, message, data = entry[:6]
    return Event(
        id=str(event_id),
        type=kind,
        level=level,
        created_at=time_of(created_at),
        message=message,
        data=json.loads(data or "{}"),
    )
