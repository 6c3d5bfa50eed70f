"""What held-out predictions support: thresholds for a wanted precision, and whether to serve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from app.contract.objects import Threshold, Verdict
from worker.evaluation.figures import wilson_interval

#: Confidences are told in steps of 1/10,000; so many thresholds are tried.
_STEPS: Final = 10_000
_THRESHOLDS: Final = 5
#: What a figure may be above its digits before it is rounded up.
_ROUNDING: Final = 1e-9
#: Labels that a sentence names.
_NAMED: Final = 5


def threshold(probabilities: Tensor, truth: Tensor, precision: float) -> Threshold | None:
    """The least confidence from which on ``precision`` is supported; None if there is none.

    Thresholds that answer a fifth, two fifths and so on are tried; each must pass at a fifth of 5% (Bonferroni), so
    that the best of them does not look better than it is. A multiple of 0.0001.
    """
    confidence, predicted = probabilities.max(1)
    return supported_threshold(confidence, predicted == truth, precision)


def supported_threshold(confidence: Tensor, right: Tensor, precision: float) -> Threshold | None:
    """The same from confidences (N,) and whether each was right (N,)."""
    least, n = (confidence.double() * _STEPS).floor(), len(right)
    ordered = least.sort(descending=True).values
    for share in range(_THRESHOLDS, 0, -1):
        answers = least >= ordered[math.ceil(n * share / _THRESHOLDS) - 1]
        answered, wrong = int(answers.sum()), int((answers & ~right).sum())
        if error_bound(wrong, answered, 0.05 / _THRESHOLDS) <= 1 - precision:
            seen = 1 - wrong / answered
            return Threshold(
                target_precision=precision,
                min_confidence=least[answers].min().item() / _STEPS,
                coverage=answered / n,
                answered=answered,
                precision=seen,
                precision_ci95=wilson_interval(seen, answered),
            )
    return None


def error_bound(wrong: int, n: int, chance: float = 0.05) -> float:
    """Upper bound of a share of which ``wrong`` of ``n`` were seen, exceeded with so much ``chance`` at most.

    The exact one (Clopper and Pearson 1934), by bisection of the binomial distribution.
    """
    if wrong >= n:
        return 1.0
    k = torch.arange(wrong + 1, dtype=torch.float64)
    logs = math.lgamma(n + 1) - (k + 1).lgamma() - (n - k + 1).lgamma()

    def at_most(share: float) -> float:
        """The chance of ``wrong`` or fewer."""
        return (logs + k * math.log(share) + (n - k) * math.log1p(-share)).exp().sum().item()

    low, high = 1e-12, 1 - 1e-12
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if at_most(middle) > chance else (low, middle)
    return high


def fewest_for(target_error: float) -> int:
    """How many inputs, all answered right, support a share of wrong answers of at most ``target_error``."""
    return math.ceil(math.log(0.05) / math.log1p(-target_error))


def verdict(
    probabilities: Tensor | None, truth: Tensor | None, target_error: float, unrecognised: Sequence[str] = ()
) -> Verdict:
    """Whether to serve what predicted ``probabilities`` (N, L), None where nothing was measured.

    unrecognised: labels that no input was rightly predicted as.
    """
    if probabilities is None or truth is None or not len(truth):
        return Verdict(decision="more_examples", reason="no examples were held out, so nothing is known of its errors")
    confidence, predicted = probabilities.max(1)
    return verdict_on(confidence, predicted == truth, target_error, unrecognised)


def verdict_on(confidence: Tensor, right: Tensor, target_error: float, unrecognised: Sequence[str] = ()) -> Verdict:
    """The same from confidences (N,) and whether each was right (N,), N > 0.

    A rare label that is never recognised costs few errors: such a classifier is not to be served all the same.
    """
    n, wrong, wanted = len(right), int((~right).sum()), f"{100 * target_error:.4g}%"
    bound = error_bound(wrong, n)
    if bound <= target_error and unrecognised:
        reason = f"{wrong} of {n} measured answers were wrong, but no text of {listed(unrecognised)} was recognised"
        return Verdict(decision="more_examples", reason=reason)
    if bound <= target_error:
        reason = f"{wrong} of {n} measured answers were wrong: at most {_rounded_up(bound)} can be expected to be"
        return Verdict(decision="serve", reason=reason)
    if supported := supported_threshold(confidence, right, 1 - target_error):
        reason = (
            f"with a min_confidence of {supported.min_confidence:.4f} at most {wanted} of answers can be "
            f"expected to be wrong; {supported.coverage:.0%} of measured inputs were answered then"
        )
        return Verdict(decision="serve_above_threshold", reason=reason)
    fewest = fewest_for(target_error)
    reason = f"{wrong} of {n} measured answers were wrong"
    if n < fewest:
        reason += f"; {fewest} at least must be measured, and all be right, to show an error of at most {wanted}"
    else:
        reason += f", and those above no confidence are right often enough to show an error of at most {wanted}"
    return Verdict(decision="more_examples", reason=reason)


def _rounded_up(share: float) -> str:
    """A share above 0 in percent, to two digits of a small one."""
    percent = 100 * share
    decimals = max(1, 1 - math.floor(math.log10(percent)))
    return f"{math.ceil(percent * 10**decimals - _ROUNDING) / 10**decimals:.{decimals}f}%"


def listed(labels: Sequence[str]) -> str:
    """The first of the labels, and how many more there are."""
    named, more = ", ".join(map(repr, labels[:_NAMED])), len(labels) - _NAMED
    return f"{named} and {more} more" if more > 0 else named
