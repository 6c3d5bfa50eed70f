"""Between the store's flat rows of strings and the objects of the contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pydantic import TypeAdapter

from app.contract.names import JobStatus
from app.contract.objects import Context, Job, JobError, Metrics, Progress
from app.contract.tuning import ResolvedHyperparameters

_LABELS: TypeAdapter[tuple[str, ...]] = TypeAdapter(tuple[str, ...])
_METADATA: TypeAdapter[dict[str, str]] = TypeAdapter(dict[str, str])

Row = Mapping[str, str]

#: Fields of a ``ct:context`` hash.
CONTEXT_FIELDS: Final = (
    *("name", "version", "model", "labels", "job_id", "tokens", "created_at", "metadata"),
    *("artifact", "metrics"),  # only after success
)


@dataclass(frozen=True)
class StoredContext:
    """A context with what only the service needs to know: the address of its artifact, None before success."""

    context: Context
    artifact: str | None


def labels_field(labels: tuple[str, ...]) -> str:
    """Labels as stored."""
    return _LABELS.dump_json(labels).decode()


def metadata_field(metadata: dict[str, str]) -> str:
    """Metadata as stored."""
    return _METADATA.dump_json(metadata).decode()


def _time(milliseconds: str) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)


def _optional_time(row: Row, name: str) -> datetime | None:
    return _time(row[name]) if row.get(name) else None


def context_from_rows(context_id: str, row: Row, status: str) -> StoredContext:
    """The context of a ``ct:context`` hash and its job's status."""
    context = Context(
        id=context_id,
        name=row["name"] or None,
        version=int(row["version"]),
        model=row["model"],
        labels=_LABELS.validate_json(row["labels"]),
        status=JobStatus(status),
        job_id=row["job_id"],
        tokens=int(row["tokens"]),
        metrics=Metrics.model_validate_json(row["metrics"]) if row.get("metrics") else None,
        created_at=_time(row["created_at"]),
        metadata=_METADATA.validate_json(row["metadata"]),
    )
    return StoredContext(context, row.get("artifact") or None)


def job_from_row(job_id: str, row: Row) -> Job:
    """The job of a ``ct:job`` hash."""
    status = JobStatus(row["status"])
    return Job(
        id=job_id,
        context_id=row["context_id"],
        model=row["model"],
        status=status,
        terminal=status.terminal,
        created_at=_time(row["created_at"]),
        started_at=_optional_time(row, "started_at"),
        finished_at=_optional_time(row, "finished_at"),
        estimated_finish_at=None if status.terminal else _optional_time(row, "estimated_finish_at"),
        progress=Progress(step=int(row["step"]), total_steps=int(row["total_steps"]), fraction=float(row["fraction"])),
        attempt=int(row.get("attempt", 0)),
        hyperparameters=ResolvedHyperparameters.model_validate_json(row["hyperparameters"]),
        trained_tokens=int(row.get("trained_tokens", 0)),
        error=JobError.model_validate_json(row["error"]) if row.get("error") else None,
        cancel_requested=row.get("cancel_requested") == "1",
    )
