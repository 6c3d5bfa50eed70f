"""Batches: many texts in a file, answered by one job."""

from __future__ import annotations

from pydantic import AwareDatetime, Field

from contextune.models.answered import Answered
from contextune.models.classification import LabelConfidence
from contextune.models.jobs import Job
from contextune.models.report import Report


class Counts(Answered):
    """How many lines a batch has, how many are answered, how many cannot be."""

    total: int = 0
    done: int = 0
    failed: int = 0


class Batch(Job):
    """A job of kind batch. ``report`` is there where lines had labels and all are answered."""

    kind: str = "batch"
    counts: Counts = Counts()
    expires_at: AwareDatetime | None = None
    report: Report | None = None


class BatchLine(Answered):
    """What came of one line; ``index`` counts lines from 0, ``id`` is the line's own."""

    index: int
    id: str | None = None


class BatchResult(BatchLine):
    """One line's answer."""

    prediction: str | None = None
    confidence: float
    abstained: bool = False
    labels: dict[str, LabelConfidence] = Field(default_factory=dict)


class BatchError(BatchLine):
    """A line that could not be answered, and why."""

    code: str = "unknown"
    message: str = ""
