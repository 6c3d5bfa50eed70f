"""Jobs and their events."""

from __future__ import annotations

from typing import Any

from pydantic import AwareDatetime, Field

from contextune.models.answered import Answered


class Progress(Answered):
    """How far a job is; ``fraction``, 0 to 1, also moves within a step."""

    step: int
    total_steps: int
    fraction: float


class JobError(Answered):
    """Why a job, or a context, has failed."""

    code: str
    message: str


class Job(Answered):
    """One durable piece of work: a tuning run or a batch.

    ``status`` is queued, running, succeeded, failed or cancelled; ``terminal`` says that it will not change any more.
    """

    id: str
    object: str = "job"
    kind: str = "tuning"
    context_id: str
    model: str
    status: str
    terminal: bool
    created_at: AwareDatetime
    started_at: AwareDatetime | None = None
    finished_at: AwareDatetime | None = None
    estimated_finish_at: AwareDatetime | None = None
    progress: Progress
    attempt: int = 0
    hyperparameters: dict[str, Any] | None = None
    trained_tokens: int = 0
    error: JobError | None = None
    cancel_requested: bool = False


class Event(Answered):
    """Something that happened to a job. ``type`` is status, metrics or message.

    ``data`` of a metrics event has step, loss, learning rate and what else was measured.
    """

    id: str
    object: str = "event"
    type: str
    level: str = "info"
    created_at: AwareDatetime
    message: str = ""
    data: dict[str, Any] = Field(default_factory=dict)
