"""How good predictions are: accuracy with its interval, macro-F1, negative log-likelihood, calibration error."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from app.contract.objects import Score

_Z95: Final = 1.959963984540054
_ECE_BINS: Final = 10
_SMALLEST: Final = 1e-12


def evaluate(probabilities: Tensor, truth: Tensor) -> Score:
    """Score predictions: ``probabilities`` (N, L) rows that sum to 1, ``truth`` (N,) indices of labels, N > 0."""
    predicted = probabilities.argmax(dim=1)
    right = predicted == truth
    accuracy = right.double().mean().item()
    likelihood = probabilities.gather(1, truth[:, None]).clamp_min(_SMALLEST)
    return Score(
        accuracy=accuracy,
        macro_f1=_macro_f1(predicted, truth),
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


def _macro_f1(predicted: Tensor, truth: Tensor) -> float:
    """Mean over the labels that occur in either of 2TP / (2TP + FP + FN)."""
    labels = torch.cat([predicted, truth]).unique().tolist()
    scores = []
    for label in labels:
        hits = ((predicted == label) & (truth == label)).sum().item()
        scores.append(2 * hits / ((predicted == label).sum().item() + (truth == label).sum().item()))
    return sum(scores) / len(scores)


def _expected_calibration_error(confidence: Tensor, right: Tensor) -> float:
    """ECE (Guo et al. 2017) over ten equal bins of confidence."""
    bins = (confidence * _ECE_BINS).long().clamp_max(_ECE_BINS - 1)
    error = 0.0
    for index in bins.unique():
        inside = bins == index
        gap = (confidence[inside].double().mean() - right[inside].double().mean()).abs().item()
        error += gap * inside.double().mean().item()
    return error
