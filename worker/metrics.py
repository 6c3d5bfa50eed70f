"""How good predictions are: accuracy, macro-F1, likelihood, calibration, Brier score, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from app.contract.objects import Difference, LabelScore, Score, Threshold

_Z95: Final = 1.959963984540054
_ECE_BINS: Final = 10
_SMALLEST: Final = 1e-12
_RESAMPLES: Final = 1000
#: Confidences that a threshold is chosen among.
_STEPS: Final = 10_000


def evaluate(probabilities: Tensor, truth: Tensor) -> Score:
    """Score predictions: ``probabilities`` (N, L) rows that sum to 1, ``truth`` (N,) indices of labels, N > 0."""
    n = len(truth)
    figures = {name: figure.item() for name, figure in _figures(probabilities, truth, torch.arange(n)[None]).items()}
    intervals = {name: _percentiles(drawn) for name, drawn in _figures(probabilities, truth, _resamples(n)).items()}
    intervals["accuracy"] = wilson_interval(figures["accuracy"], n)
    return Score.model_validate(figures | {f"{name}_ci95": interval for name, interval in intervals.items()} | {"n": n})


def compare(tuned: Tensor, plain: Tensor, truth: Tensor) -> Difference:
    """The paired difference of two sets of probabilities (N, L) for the same inputs, tuned minus plain."""
    right = (tuned.argmax(1) == truth).double() - (plain.argmax(1) == truth).double()
    loss = _losses(tuned, truth) - _losses(plain, truth)
    draws = _resamples(len(truth))
    return Difference(
        accuracy=right.mean().item(),
        accuracy_ci95=_percentiles(right[draws].mean(1)),
        nll=loss.mean().item(),
        nll_ci95=_percentiles(loss[draws].mean(1)),
    )


def threshold(probabilities: Tensor, truth: Tensor, precision: float) -> Threshold | None:
    """The least confidence from which on the share of right predictions is ``precision``; None if there is none.

    A multiple of 0.0001, like those that it is chosen among.
    """
    confidence, predicted = probabilities.max(1)
    least = (confidence.double() * _STEPS).floor()
    order = least.argsort(descending=True, stable=True)
    least = least[order]
    right = (predicted == truth)[order].double().cumsum(0) / torch.arange(1, len(truth) + 1)
    ends = torch.cat([least[1:] < least[:-1], torch.tensor([True])])  # whoever is as sure is answered too
    enough = ((right >= precision) & ends).nonzero().flatten().tolist()
    if not enough:
        return None
    last = enough[-1]
    return Threshold(
        target_precision=precision, min_confidence=least[last].item() / _STEPS, coverage=(last + 1) / len(truth)
    )


def _figures(probabilities: Tensor, truth: Tensor, draws: Tensor) -> dict[str, Tensor]:
    """Each figure (B,) for each of the ``draws`` (B, N) of inputs."""
    confidence, predicted = probabilities.double().max(1)
    right = (predicted == truth).double()
    distance = (probabilities.double() - functional.one_hot(truth, probabilities.shape[1])).square().sum(1)
    return {
        "accuracy": right[draws].mean(1),
        "macro_f1": _macro_f1(truth[draws], predicted[draws], probabilities.shape[1]),
        "nll": _losses(probabilities, truth)[draws].mean(1),
        "ece": _expected_calibration_error(confidence[draws], right[draws]),
        "brier": distance[draws].mean(1),
    }


def _losses(probabilities: Tensor, truth: Tensor) -> Tensor:
    """(N,) negative log-likelihoods."""
    return -probabilities.double().gather(1, truth[:, None]).clamp_min(_SMALLEST).log().flatten()


def _resamples(n: int) -> Tensor:
    """(B, N) draws with replacement, always the same."""
    return torch.randint(n, (_RESAMPLES, n), generator=torch.Generator().manual_seed(0))


def _percentiles(values: Tensor) -> tuple[float, float]:
    """The middle 95% of values (B,)."""
    low, high = values.double().quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high


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


def _macro_f1(truth: Tensor, predicted: Tensor, labels: int) -> Tensor:
    """Mean F1 (B,) over the labels that are true or predicted somewhere in a row of (B, N)."""
    ones = torch.ones(truth.shape, dtype=torch.float64)
    zeros = torch.zeros(len(truth), labels, dtype=torch.float64)
    true, found = zeros.scatter_add(1, truth, ones), zeros.scatter_add(1, predicted, ones)
    hits = zeros.scatter_add(1, truth, (truth == predicted).double())
    occurring = (true + found) > 0
    return (2 * hits / (true + found).clamp_min(1)).sum(1) / occurring.sum(1)


def _expected_calibration_error(confidence: Tensor, right: Tensor) -> Tensor:
    """ECE (B,) (Guo et al. 2017) over ten equal bins of confidence, of rows of (B, N)."""
    bins = (confidence * _ECE_BINS).long().clamp_max(_ECE_BINS - 1)
    gaps = torch.zeros(len(bins), _ECE_BINS, dtype=torch.float64).scatter_add(1, bins, confidence - right)
    return gaps.abs().sum(1) / confidence.shape[1]
