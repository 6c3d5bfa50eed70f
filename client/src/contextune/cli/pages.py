"""What people read of contexts, jobs and answers, line by line."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from rich.text import Text

from contextune.cli.output import clipped, table
from contextune.models.contexts import Context
from contextune.models.jobs import Job


def contexts_table(contexts: Iterable[Context]) -> Text:
    """Contexts, a line each."""
    rows = [
        (
            ref_of(context),
            context.status,
            ",".join(context.aliases),
            len(context.labels),
            accuracy_of(context),
            when(context.created_at),
            context.id,
            context.model,
        )
        for context in contexts
    ]
    return table(["ref", "status", "aliases", "labels", "accuracy", "created", "id", "model"], rows, right=(3, 4))


def jobs_table(jobs: Iterable[Job]) -> Text:
    """Jobs, a line each."""
    rows = [
        (job.id, job.kind, job.status, f"{job.progress.fraction:.0%}", job.context_id, job.model, when(job.created_at))
        for job in jobs
    ]
    return table(["id", "kind", "status", "done", "context", "model", "created"], rows, right=(3,))


def fields_table(fields: Iterable[tuple[str, Any]]) -> Text:
    """One thing, a line for each of its fields that there is something to say of."""
    return table(["", ""], [(name, clipped(str(value), 100)) for name, value in fields if value not in (None, "", ())])


def job_fields(job: Job) -> list[tuple[str, Any]]:
    """What there is to say of a job."""
    return [
        ("job", job.id),
        ("kind", job.kind),
        ("status", job.status),
        ("progress", f"step {job.progress.step} of {job.progress.total_steps}, {job.progress.fraction:.0%}"),
        ("context", job.context_id),
        ("model", job.model),
        ("created", when(job.created_at)),
        ("started", when(job.started_at)),
        ("finished", when(job.finished_at)),
        ("attempt", job.attempt),
        ("error", f"{job.error.message} [{job.error.code}]" if job.error else None),
    ]


def ref_of(context: Context) -> str:
    """How a context is named: ``name@version``, or its id where it has no name."""
    return f"{context.name}@{context.version}" if context.name else context.id


def accuracy_of(context: Context) -> str:
    """The accuracy of what a context serves, where it was measured."""
    if context.report is None:
        return ""
    score = context.report.icl if context.report.served == "icl" else context.report.tuned
    return f"{score.accuracy:.1%}" if score else ""


def when(time: datetime | None) -> str:
    """A time in this machine's zone."""
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S") if time else ""


def seconds_until(time: datetime | None) -> float | None:
    """Seconds from now; None where it is not known or past."""
    left = (time - datetime.now(UTC)).total_seconds() if time else 0
    return left if left > 0 else None
