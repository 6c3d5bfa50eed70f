"""Contexts: what they are made of and what is known of them."""

from __future__ import annotations

from typing import Any

from pydantic import AwareDatetime, Field

from contextune.models.answered import Answered
from contextune.models.jobs import Job, JobError
from contextune.models.report import Report


class Example(Answered):
    """A text and its label."""

    text: str
    label: str


class LabelDescription(Answered):
    """A label in words: what a text of it is about."""

    name: str
    description: str | None = None


class Template(Answered):
    """How an example is written: input part, separator, output part, and what stands between examples."""

    input: str = "input: {text}"
    separator: str = "\n"
    output: str = "output: {label}"
    between: str = "\n\n"


class Context(Answered):
    """What is classified with. ``report`` is None until its job has succeeded, and in lists short."""

    id: str
    object: str = "context"
    name: str | None = None
    version: int
    aliases: tuple[str, ...] = ()
    model: str
    encoder: str | None = None
    labels: tuple[str, ...]
    status: str
    error: JobError | None = None
    job_id: str | None = None
    hyperparameters: dict[str, Any] | None = None
    tokens: int = 0
    report: Report | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    created_at: AwareDatetime
    finished_at: AwareDatetime | None = None


class CreatedContext(Answered):
    """A context that was accepted, and the job that tunes it; an imported context has none."""

    context: Context
    job: Job | None = None


class ExampleWarning(Answered):
    """What makes a worse classifier or is not what its author meant; ``param`` is the JSON pointer to it."""

    code: str
    message: str
    param: str | None = None


class BudgetOffer(Answered):
    """What a bound on the seconds of a search would buy; ``max_seconds`` null is no bound."""

    max_seconds: float | None = None
    estimated_seconds: float = 0.0
    trials: tuple[dict[str, Any], ...] = ()
    encoder_steps: int = 0


class DryRun(Answered):
    """What a context would need. Nothing was stored or queued."""

    object: str = "dry_run"
    model: str
    context_tokens: int
    longest_example_tokens: int = 0
    context_limit: int
    training_examples: int = 0
    hyperparameters: dict[str, Any] | None = None
    total_steps: int = 0
    estimated_seconds: float = 0.0
    budgets: tuple[BudgetOffer, ...] = ()
    warnings: tuple[ExampleWarning, ...] = ()


class Alias(Answered):
    """A word that points at one version of a context.

    After a move ``previous_version`` is where it pointed before, and ``resident`` says whether every worker has
    the version at hand.
    """

    object: str = "alias"
    name: str = ""
    alias: str = ""
    version: int
    context_id: str | None = None
    previous_version: int | None = None
    resident: bool | None = None
