"""Contexts and jobs as users see them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AwareDatetime, Field

from app.contract.names import ErrorCode, JobKind, JobStatus
from app.contract.payload import Payload
from app.contract.tuning import Hyperparameters, ResolvedHyperparameters, Template, TrialSettings

Interval = tuple[float, float]


class LabelScore(Payload):
    """Quality for one label: of what was predicted as it, of what truly is it, and the harmonic mean of both.

    Null is what nothing is known of: ``precision`` where it was never predicted, ``recall`` where no input is of it,
    ``f1`` where both are so. ``n`` inputs are of it.
    """

    precision: float | None
    recall: float | None
    f1: float | None
    n: int


class Score(Payload):
    """Quality of one set of predictions, each figure with a 95% interval.

    The interval of the accuracy is Wilson's. Of a context of the method ``auto``, judged on ``folds``, its upper end
    is moved towards 1 by a third of what is left: what serves has learned more examples than what was judged. The
    intervals of ``nll`` and ``brier`` are Student's, those of ``macro_f1`` and ``ece`` come from a bootstrap over the
    inputs: the first with one more of which nothing is known, the second from 0 if confidences that mean exactly what
    they say would have such an ECE too. ``chance_ece`` is the ECE that these have on as many inputs. ``nll`` is in
    nats per input; ``brier`` is the squared distance from the truth, 0 to 2.
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
    chance_ece: float = 0.0
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
    """An example that held-out predictions contradict; ``param`` is the JSON pointer to it.

    ``probability`` is that of its label, ``wrong`` the chance that the label is wrong.
    """

    param: str
    probability: float
    wrong: float = 0.0
    prediction: str
    prediction_probability: float


class HarmfulExample(Payload):
    """An example without which the encoder's head predicts the others better, by ``gain`` nats each."""

    param: str
    gain: float


class Threshold(Payload):
    """The least ``min_confidence`` from which on held-out inputs support the wanted precision.

    They do where the exact bound (Clopper and Pearson 1934) on the share of wrong answers keeps to it in 95% of cases,
    the choice among thresholds allowed for. ``coverage`` is the share answered, ``answered`` their number,
    ``precision`` the share of these that were right.
    """

    target_precision: float
    min_confidence: float
    coverage: float
    answered: int
    precision: float
    precision_ci95: Interval


class Verdict(Payload):
    """Whether to serve, for the wanted ``target_error``, and why."""

    decision: Literal["serve", "serve_above_threshold", "more_examples"]
    reason: str


class TrialReport(Payload):
    """A trial of the search: its settings, whether it was done, and its loss and accuracy on what was held out."""

    settings: TrialSettings
    status: Literal["done", "dropped"]
    nll: float | None = None
    accuracy: float | None = None


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
    encoder: str | None = None
    versions: dict[str, str]
    device: str
    dtype: str | None = None
    threads: int


#: "calibrated" is the classifier without a step of tuning, "icl" the plain label scores.
Served = Literal["tuned", "calibrated", "icl"]


class Scores(Payload):
    """What of a report stands in lists: the figures of ``measured_on``, and what is served.

    ``icl`` are the plain label scores under one prompt, ``tuned`` is what is served.
    """

    icl: Score | None = None
    tuned: Score | None = None
    difference: Difference | None = None
    served: Served
    measured_on: Literal["validation_examples", "folds", "batch"] | None = None


class Report(Scores):
    """What is known of a tuned context.

    Figures are of ``measured_on``: the validation examples, folds that were held out in turn, or the labelled lines of
    a batch; without any there are none. ``notes`` say in words what the figures do not.
    """

    notes: tuple[str, ...] = ()
    #: Of what is served: rows are true labels, columns predicted ones, in the order of the context's labels.
    confusion_matrix: tuple[tuple[int, ...], ...] | None = None
    per_label: dict[str, LabelScore] | None = None
    loss_curve: tuple[float, ...] = ()
    epsilon_use: dict[str, EpsilonUse] = Field(default_factory=dict)
    suspect_examples: tuple[SuspectExample, ...] = ()
    harmful_examples: tuple[HarmfulExample, ...] = ()
    thresholds: tuple[Threshold, ...] = ()
    verdict: Verdict | None = None
    trials: tuple[TrialReport, ...] = ()
    #: What the parts weigh in the mixture: label scores, states, sentence vectors, those that there are.
    weights: tuple[float, ...] = ()
    #: Labels that are scored after the heads have chosen them; None is all.
    shortlist: int | None = None
    #: Name of the sentence encoder that serves, and steps that tuned it, 0 for the encoder as it is; None without.
    encoder: str | None = None
    encoder_steps: int | None = None
    reproducibility: Reproducibility | None = None


class JobError(Payload):
    """Why a job failed."""

    code: ErrorCode
    message: str


class Context(Payload):
    """A context as users see it. ``status``, ``error`` and ``finished_at`` are those of its job, which it outlives.

    ``hyperparameters`` are those that it is tuned with; once it has succeeded, those that give the same again. In lists
    ``report`` has the scores alone. A context that was imported has neither job, hyperparameters nor report.
    ``encoder`` is the SHA-256 of the files of the sentence encoder that the context answers beside, None where it needs
    none or has not succeeded yet.
    """

    id: str
    object: Literal["context"] = "context"
    name: str | None
    version: int
    aliases: tuple[str, ...]
    model: str
    encoder: str | None
    labels: tuple[str, ...]
    status: JobStatus
    error: JobError | None
    job_id: str | None
    hyperparameters: ResolvedHyperparameters | None
    tokens: int
    report: Report | Scores | None
    metadata: dict[str, str]
    created_at: AwareDatetime
    finished_at: AwareDatetime | None


class Progress(Payload):
    """How far a job is; ``fraction`` also moves within a step."""

    step: int
    total_steps: int
    fraction: float


class Job(Payload):
    """One durable piece of work: a tuning run of one context, or a batch."""

    id: str
    object: Literal["job"] = "job"
    kind: JobKind
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
    hyperparameters: ResolvedHyperparameters | None
    trained_tokens: int
    error: JobError | None
    cancel_requested: bool


class Event(Payload):
    """Something that happened to a job; ``id`` counts them. ``data`` of a status event holds the status.

    ``data`` of a metrics event of a tuning job: ``step`` of all trials, the ``trial`` and ``prompt`` that it belongs
    to, its ``loss`` and ``learning_rate``, the share of tokens ``at_epsilon``, and ``held_out`` {trial, examples,
    accuracy, nll} of the newest trial that is done. There are five a second at most, and 200 of a job are kept.
    """

    id: str
    type: Literal["status", "metrics", "message"]
    level: Literal["info", "warning", "error"]
    created_at: AwareDatetime
    message: str
    data: dict[str, Any]
