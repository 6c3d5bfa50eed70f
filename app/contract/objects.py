"""Contexts and jobs as users see them."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime

from app.contract.names import ErrorCode, JobStatus
from app.contract.payload import Model
from app.contract.tuning import ResolvedHyperparameters


class LabelScore(Model):
    """Quality for one label: of what was predicted as it, of what truly is it, and the harmonic mean of both."""

    precision: float
    recall: float
    f1: float
    n: int


class Score(Model):
    """Quality of one set of predictions. ``accuracy_ci95`` is the Wilson interval; ``nll`` is in nats per input."""

    accuracy: float
    macro_f1: float
    nll: float
    ece: float
    accuracy_ci95: tuple[float, float]
    n: int


class Metrics(Model):
    """What is known of a tuned context; ``icl`` and ``tuned`` are None without validation examples."""

    icl: Score | None = None
    tuned: Score | None = None
    served: Literal["tuned", "icl"]
    #: Of what is served: rows are true labels, columns predicted ones, in the order of the context's labels.
    confusion_matrix: tuple[tuple[int, ...], ...] | None = None
    per_label: dict[str, LabelScore] | None = None
    loss_curve: tuple[float, ...] = ()


class Context(Model):
    """A context as users see it. ``status`` is that of its job."""

    id: str
    object: Literal["context"] = "context"
    name: str | None
    version: int
    model: str
    labels: tuple[str, ...]
    status: JobStatus
    job_id: str
    tokens: int
    metrics: Metrics | None
    created_at: AwareDatetime
    metadata: dict[str, str]


class Progress(Model):
    """How far a job is; ``fraction`` also moves within a step."""

    step: int
    total_steps: int
    fraction: float


class JobError(Model):
    """Why a job failed."""

    code: ErrorCode
    message: str


class Job(Model):
    """One tuning run of one context."""

    id: str
    object: Literal["tuning.job"] = "tuning.job"
    context_id: str
    model: str
    status: JobStatus
    terminal: bool
    created_at: AwareDatetime
    started_at: AwareDatetime | None
    finished_at: AwareDatetime | None
    estimated_finish_at: AwareDatetime | None
    progress: Progress
    attempt: int
    hyperparameters: ResolvedHyperparameters
    trained_tokens: int
    error: JobError | None
    cancel_requested: bool
