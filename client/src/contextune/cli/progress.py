"""A job while it is waited for: a live bar on a terminal, elsewhere a line now and then; all of it on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from contextune.cli import failures
from contextune.cli.output import Output
from contextune.cli.pages import seconds_until
from contextune.client import Contextune
from contextune.errors import ContextuneError, ServiceUnreachableError
from contextune.handles import BatchHandle, JobHandle
from contextune.models.jobs import Job

AnyHandle = TypeVar("AnyHandle", JobHandle, BatchHandle)

_LINE_SECONDS: Final = 10.0


def follow(client: Contextune, job: AnyHandle, output: Output) -> AnyHandle:
    """Wait until the job has ended well, telling how far it is.

    Ctrl-C asks whether to cancel the job where somebody can be asked; else, and by default, the job goes on.
    """
    losses = _Losses(client, job.id)
    try:
        with _shown(output) as show:
            return job.wait(on_progress=lambda now: show(now, losses.latest(now)))
    except KeyboardInterrupt:
        _interrupted(job, output)
        raise typer.Exit(failures.INTERRUPTED) from None


class _Losses:
    """The loss that a job's newest metrics event tells; a key that may not read events is tried once."""

    def __init__(self, client: Contextune, job_id: str) -> None:
        self._client = client
        self._job_id = job_id
        self._after: str | None = None
        self._known = True
        self._loss: float | None = None

    def latest(self, job: Job) -> float | None:
        if self._known and job.status == "running" and job.kind == "tuning":
            try:
                events = list(self._client.jobs.list_events(self._job_id, after=self._after))
            except ServiceUnreachableError:  # the waiting itself has patience for this
                return self._loss
            except ContextuneError:
                self._known = False
                return self._loss
            self._after = events[-1].id if events else self._after
            losses = [event.data["loss"] for event in events if event.data.get("loss") is not None]
            self._loss = float(losses[-1]) if losses else self._loss
        return self._loss


class _Bar:
    """A live bar."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("queued", total=1.0, detail="")

    def __call__(self, job: Job, loss: float | None) -> None:
        self._progress.update(
            self._task, description=job.status, completed=job.progress.fraction, detail=_detail(job, loss)
        )


class _Lines:
    """A line now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = time.monotonic() + _LINE_SECONDS

    def __call__(self, job: Job, loss: float | None) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _LINE_SECONDS
            self._console.print(f"{job.status}, {job.progress.fraction:.0%}{_detail(job, loss)}")


@contextmanager
def _shown(output: Output) -> Iterator[_Bar | _Lines]:
    if output.as_json or not output.notes.is_terminal:
        yield _Lines(output.notes)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%{task.fields[detail]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=output.notes, transient=True) as progress:
        yield _Bar(progress)


def _detail(job: Job, loss: float | None) -> str:
    parts = [f"step {job.progress.step}/{job.progress.total_steps}" if job.progress.total_steps else ""]
    parts.append(f"loss {loss:.3f}" if loss is not None else "")
    left = seconds_until(job.estimated_finish_at)
    parts.append(f"about {left:.0f} s left" if left is not None else "")
    return "".join(f" · {part}" for part in parts if part)


def _interrupted(job: AnyHandle, output: Output) -> None:
    if output.notes.is_terminal and not output.as_json and _confirmed():
        try:
            job.cancel()
        except ContextuneError as error:
            output.note(f"The job {job.id} could not be cancelled: {error}")
        else:
            output.note(f"The job {job.id} is being cancelled.")
    else:
        output.note(
            f"The job goes on; `contextune jobs wait {job.id}` follows it, `contextune jobs cancel {job.id}` ends it."
        )


def _confirmed() -> bool:
    try:
        return typer.confirm("\nCancel the job?", default=False, err=True)
    except (typer.Abort, KeyboardInterrupt):
        return False
