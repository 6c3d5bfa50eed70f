"""How good predictions are: accuracy with its interval, macro-F1, negative log-likelihood, calibration error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from torch import Tensor

from app.contract.objects import LabelScore, Score

_Z95: Final = 1.959963984540054
_ECE_BINS: Final = 10
_SMALLEST: Final = 1e-12


def evaluate(probabilities: Tensor, truth: Tensor) -> Score:
    """Score predictions: ``probabilities`` (N, L) rows that sum to 1, ``truth`` (N,) indices of labels, N > 0."""
    right = probabilities.argmax(dim=1) == truth
    accuracy = right.double().mean().item()
    likelihood = probabilities.gather(1, truth[:, None]).clamp_min(_SMALLEST)
    return Score(
        accuracy=accuracy,
        macro_f1=_macro_f1(confusion_matrix(probabilities, truth)),
        nll=-likelihood.log().mean().item(),
        ece=_expected_calibration_error(probabilities.max(dim=1).values, right),
        accuracy_ci95=wilson_interval(accuracy, len(truth)),
        n=len(truth),
    )


def wilson_interval(share: float, n: int) -> tuple[float, float]:
    """95% interval of a share observed in ``n`` trials (Wilson 1927)."""
    centre = (share + _Z95**2 / (2 * n)) / (1 + _Z95**2 / n)
    half = _Z95 / (1 + _Z95**2 / n) * math.sqrt(share * (1 - share) / n + _Z95**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def confusion_matrix(probabilities: Tensor, truth: Tensor) -> tuple[tuple[int, ...], ...]:
    """Counts (L, L): rows are true labels, columns predicted ones."""
    labels = probabilities.shape[1]
    cells = truth * labels + probabilities.argmax(dim=1)
    counts: list[list[int]] = cells.bincount(minlength=labels * labels).view(labels, labels).tolist()
    return tuple(tuple(row) for row in counts)


def per_label(matrix: Sequence[Sequence[int]]) -> list[LabelScore]:
    """Precision, recall and F1 of each label from a confusion matrix; a share of nothing is 0."""
    scores = []
    for label, row in enumerate(matrix):
        hits, true, predicted = row[label], sum(row), sum(other[label] for other in matrix)
        scores.append(
            LabelScore(
                precision=hits / predicted if predicted else 0.0,
                recall=hits / true if true else 0.0,
                f1=2 * hits / (true + predicted) if true + predicted else 0.0,
                n=true,
            )
        )
    return scores


def _macro_f1(matrix: Sequence[Sequence[int]]) -> float:
    """Mean F1 over the labels that are true or predicted somewhere."""
    occurring = [
        score.f1 for label, score in enumerate(per_label(matrix)) if score.n or any(row[label] for row in matrix)
    ]
    return sum(occurring) / len(occurring)


def _expected_calibration_error(confidence: Tensor, right: Tensor) -> float:
    """ECE (Guo et al. 2017) over ten equal bins of confidence."""
    bins = (confidence * _ECE_BINS).long().clamp_max(_ECE_BINS - 1)
    error = 0.0
    for index in bins.unique():
        inside = bins == index
        gap = (confidence[inside].double().mean() - right[inside].double().mean()).abs().item()
        error += gap * inside.double().mean().item()
    return error
