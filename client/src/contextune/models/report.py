"""The report of a context: what was measured about it, and what its figures can carry."""

from __future__ import annotations

from typing import Any, TypeAlias

from pydantic import Field

from contextune.models.answered import Answered

Interval: TypeAlias = tuple[float, float]


class LabelScore(Answered):
    """Quality for one label over its ``n`` measured examples.

    Null is what nothing is known of: ``precision`` where the label was never predicted, ``recall`` where no example is
    of it, ``f1`` where both are so.
    """

    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    n: int


class Score(Answered):
    """Quality of one set of predictions, each figure with a 95% interval.

    ``nll`` is in nats for each input. ``chance_ece`` is the ECE that confidences which mean exactly what they say have
    on as many inputs.
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


class Difference(Answered):
    """Tuned minus ICL on the same inputs, with 95% intervals for pairs."""

    accuracy: float
    accuracy_ci95: Interval
    nll: float
    nll_ci95: Interval


class EpsilonUse(Answered):
    """How far the deltas of one token type went, as shares of their epsilon; ``at_boundary`` is a share of tokens."""

    mean: float
    max: float
    at_boundary: float
    tokens: int


class SuspectExample(Answered):
    """An example that held-out predictions contradict; ``param`` is the JSON pointer to it.

    ``probability`` is that of its label, ``wrong`` the chance that the label is wrong.
    """

    param: str
    probability: float
    prediction: str
    prediction_probability: float
    wrong: float = 0.0


class HarmfulExample(Answered):
    """An example without which the others are predicted better, by ``gain`` nats each."""

    param: str
    gain: float


class Threshold(Answered):
    """The least ``min_confidence`` for a wanted precision, and how the held-out examples fared with it."""

    target_precision: float
    min_confidence: float
    coverage: float
    answered: int
    precision: float
    precision_ci95: Interval


class Verdict(Answered):
    """Whether to serve, and why. ``decision`` is serve, serve_above_threshold or more_examples."""

    decision: str
    reason: str = ""


class Trial(Answered):
    """A trial of the search: its settings, whether it was done or dropped, and how it did on what was held out."""

    settings: dict[str, Any] = Field(default_factory=dict)
    status: str
    nll: float | None = None
    accuracy: float | None = None


class Report(Answered):
    """What is known of a context. Figures are of examples that were held out, or there are none.

    ``served`` is what answers: tuned, calibrated or icl. The rows of ``confusion_matrix`` are true labels, its columns
    predicted ones, in the order of the context's labels. ``weights`` are those of the parts of the mixture,
    ``shortlist`` how many labels are scored exactly (None is all), ``encoder`` the name of the sentence encoder that
    serves, ``encoder_steps`` how many steps tuned it (0 for the encoder as it is); both are None without an encoder.
    """

    icl: Score | None = None
    tuned: Score | None = None
    difference: Difference | None = None
    served: str
    measured_on: str | None = None
    notes: tuple[str, ...] = ()
    confusion_matrix: tuple[tuple[int, ...], ...] | None = None
    per_label: dict[str, LabelScore] | None = None
    loss_curve: tuple[float, ...] = ()
    epsilon_use: dict[str, EpsilonUse] = Field(default_factory=dict)
    suspect_examples: tuple[SuspectExample, ...] = ()
    harmful_examples: tuple[HarmfulExample, ...] = ()
    thresholds: tuple[Threshold, ...] = ()
    reproducibility: dict[str, Any] | None = None
    verdict: Verdict | None = None
    trials: tuple[Trial, ...] = ()
    weights: tuple[float, ...] = ()
    shortlist: int | None = None
    encoder: str | None = None
    encoder_steps: int | None = None
