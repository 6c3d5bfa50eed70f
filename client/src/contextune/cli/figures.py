"""Figures of predictions whose true labels are known. Pure: no client, no output."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

_Z95: Final = 1.959964
_LEAST_PROBABILITY: Final = 1e-12


@dataclass(frozen=True)
class Judged:
    """A text, its true label, what was predicted and how likely each label was said to be."""

    text: str
    where: str
    label: str
    prediction: str | None
    confidence: float
    labels: dict[str, float]


@dataclass(frozen=True)
class LabelFigures:
    """Quality for one label over its ``n`` texts."""

    precision: float
    recall: float
    f1: float
    n: int


@dataclass(frozen=True)
class Figures:
    """Quality over ``n`` texts. An abstention counts as wrong; ``answered`` is the share without them.

    ``accuracy_ci95`` is Wilson's interval. ``nll`` is in nats for each text. ``ece`` is over ten bins of confidence.
    """

    n: int
    accuracy: float
    accuracy_ci95: tuple[float, float]
    macro_f1: float
    nll: float
    ece: float
    answered: float
    per_label: dict[str, LabelFigures]
    confusions: list[dict[str, Any]]


def figures_of(judged: Sequence[Judged]) -> Figures:
    """The figures of at least one prediction."""
    right = [one.prediction == one.label for one in judged]
    n = len(judged)
    per_label = _per_label(judged)
    return Figures(
        n=n,
        accuracy=sum(right) / n,
        accuracy_ci95=wilson(sum(right), n),
        macro_f1=sum(one.f1 for one in per_label.values()) / len(per_label),
        nll=-sum(math.log(max(one.labels.get(one.label, 0.0), _LEAST_PROBABILITY)) for one in judged) / n,
        ece=_ece([one.confidence for one in judged], [_likeliest(one) == one.label for one in judged]),
        answered=sum(one.prediction is not None for one in judged) / n,
        per_label=per_label,
        confusions=_confusions(judged),
    )


def wilson(right: int, n: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share."""
    share, z2 = right / n, _Z95 * _Z95
    middle = share + z2 / (2 * n)
    half = _Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, (middle - half) / (1 + z2 / n)), min(1.0, (middle + half) / (1 + z2 / n))


def _likeliest(one: Judged) -> str | None:
    return max(one.labels, key=one.labels.__getitem__, default=one.prediction)


def _per_label(judged: Sequence[Judged]) -> dict[str, LabelFigures]:
    true = Counter(one.label for one in judged)
    predicted = Counter(one.prediction for one in judged)
    right = Counter(one.label for one in judged if one.prediction == one.label)
    found = {}
    for label, n in true.items():
        precision = right[label] / predicted[label] if predicted[label] else 0.0
        recall = right[label] / n
        f1 = 2 * precision * recall / (precision + recall) if right[label] else 0.0
        found[label] = LabelFigures(precision, recall, f1, n)
    return found


def _ece(confidences: Sequence[float], right: Sequence[bool], bins: int = 10) -> float:
    error = 0.0
    for bin_index in range(bins):
        members = [
            (confidence, hit)
            for confidence, hit in zip(confidences, right, strict=True)
            if min(int(confidence * bins), bins - 1) == bin_index
        ]
        error += abs(sum(confidence - hit for confidence, hit in members))
    return error / len(confidences)


def _confusions(judged: Sequence[Judged]) -> list[dict[str, Any]]:
    pairs = Counter((one.label, one.prediction) for one in judged if one.prediction not in (one.label, None))
    return [{"label": label, "prediction": predicted, "n": n} for (label, predicted), n in pairs.most_common()]
