"""Contexts and jobs as users see them."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, Field

from app.contract.names import ErrorCode, JobStatus
from app.contract.payload import Payload
from app.contract.tuning import Hyperparameters, ResolvedHyperparameters, Template

Interval = tuple[float, float]


class LabelScore(Payload):
    """Quality for one label: of what was predicted as it, of what truly is it, and the harmonic mean of both."""

    precision: float
    recall: float
    f1: float
    n: int


class Score(Payload):
    """Quality of one set of predictions, each figure with a 95% interval.

    The interval of the accuracy is Wilson's, those of ``nll`` and ``brier`` are Student's, those of ``macro_f1`` and
    ``ece`` come from a bootstrap over the inputs: the first with one more of which nothing is known, the second from 0
    if confidences that mean exactly what they say would have such an ECE too. ``nll`` is in nats per input; ``brier``
    is the squared distance from the truth, 0 to 2.
    """

    accuracy: float
    macro_f1: float
    nll: float
    ece: float
    brier: float
    accuracy_ci95: Interval
    macro_f1_ci95: Interval
    nll_ci95: Interval
    ece_ci95: Interval
    brier_ci95: Interval
    n: int


class Difference(Payload):
    """Tuned minus ICL on the same inputs, with 95% intervals for pairs: Agresti and Min's, Student's for ``nll``."""

    accuracy: float
    accuracy_ci95: Interval
    nll: float
    nll_ci95: Interval


class EpsilonUse(Payload):
    """How far the deltas of one token type went, as shares of their epsilon; ``at_boundary`` is a share of tokens."""

    mean: float
    max: float
    at_boundary: float
    tokens: int


class SuspectExample(Payload):
    """An example that held-out predictions contradict; ``param`` is the JSON pointer to it."""

    param: str
    probability: float
    prediction: str
    prediction_probability: float


class HarmfulExample(Payload):
    """An example without which the head predicts the others better, by ``gain`` nats each."""

    param: str
    gain: float


class Threshold(Payload):
    """The least ``min_confidence`` with which the wanted precision can be expected, and how the held-out ones fared.

    ``coverage`` is the share answered, ``answered`` their number, ``precision`` the share of these that were right.
    """

    target_precision: float
    min_confidence: float
    coverage: float
    answered: int
    precision: float
    precision_ci95: Interval


class Reproducibility(Payload):
    """What decides the result besides the machine: the same again gives the same bits on the same kind of machine.

    ``hyperparameters`` are those that were asked for; the job has those that came of them. ``examples_sha256`` is over
    all examples, those for validation too, and the labels. None is what an earlier version did not tell.
    """

    seed: int
    hyperparameters: Hyperparameters | None = None
    examples_sha256: str
    template: Template
    model: str
    model_revision: str
    versions: dict[str, str]
    device: str
    dtype: str | None = None
    threads: int


class Metrics(Payload):
    """What is known of a tuned context.

    Figures are of ``measured_on``: the validation examples, or folds that were held out in turn; without either there
    are none. ``notes`` say in words what the figures do not.
    """

    icl: Score | None = None
    tuned: Score | None = None
    difference: Difference | None = None
    served: Literal["tuned", "icl"]
    measured_on: Literal["validation_examples", "folds"] | None = None
    notes: tuple[str, ...] = ()
    #: Of what is served: rows are true labels, columns predicted ones, in the order of the context's labels.
    confusion_matrix: tuple[tuple[int, ...], ...] | None = None
    per_label: dict[str, LabelScore] | None = None
    loss_curve: tuple[float, ...] = ()
    epsilon_use: dict[str, EpsilonUse] = Field(default_factory=dict)
    suspect_examples: tuple[SuspectExample, ...] = ()
    harmful_examples: tuple[HarmfulExample, ...] = ()
    thresholds: tuple[Threshold, ...] = ()
    reproducibility: Reproducibility | None = None


class Context(Payload):
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


class Progress(Payload):
    """How far a job is; ``fraction`` also moves within a step."""

    step: int
    total_steps: int
    fraction: float


class JobError(Payload):
    """Why a job failed."""

    code: ErrorCode
    message: str


class Job(Payload):
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
