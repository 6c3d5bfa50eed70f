"""Judging on held-out predictions: which way of tuning to take, and what to expect of it.

Mixtures are nested: one that predicts a fold was fitted to the other folds. The choice among the few candidates is not:
it is made on all folds, so that its own figures are a little too good.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

from worker.cpt.scoring.mixture import Mixture, fit_mixture, usual_mixture

#: Way of tuning and number of steps.
Candidate = tuple[int, int]

#: A candidate must be better than one that costs less by so much (nats per example) to be taken instead.
_MARGIN: Final = 0.01


def mixture_of(parts: Tensor, truth: Tensor, usual: Sequence[float], calibrate: bool) -> Mixture:
    """The mixture of held-out log-probabilities [M, N, L]; the usual one unless `calibrate`."""
    return fit_mixture(parts, truth, usual) if calibrate else usual_mixture(usual, parts.shape[2])


def nested_probabilities(
    parts: Tensor, truth: Tensor, folds: Sequence[Sequence[int]], usual: Sequence[float], calibrate: bool
) -> Tensor:
    """[N, L] for held-out log-probabilities [M, N, L]; `folds` are places in N."""
    found = torch.zeros(parts.shape[1:], dtype=torch.float64)
    for fold in folds:
        others = [place for other in folds if other is not fold for place in other]
        mixture = mixture_of(parts[:, others], truth[others], usual, calibrate)
        found[list(fold)] = mixture.probabilities(parts[:, list(fold)])
    return found


def choose(
    candidates: Mapping[Candidate, Tensor],
    head: Tensor,
    truth: Tensor,
    folds: Sequence[Sequence[int]],
    usual: Sequence[float],
    calibrate: bool,
) -> Candidate:
    """The candidate with the least held-out negative log-likelihood; of equals the one with the fewest steps.

    Each has log-probabilities [N, L] of its label scores; those of the `head` [0 or 1, N, L] are mixed in with all.
    """
    best, best_loss = next(iter(candidates)), float("inf")
    for candidate in sorted(candidates, key=lambda candidate: candidate[1]):
        parts = torch.cat([candidates[candidate][None], head])
        probabilities = nested_probabilities(parts, truth, folds, usual, calibrate)
        loss = -probabilities.gather(1, truth[:, None]).clamp_min(1e-12).log().mean().item()
        if loss < best_loss - _MARGIN:
            best, best_loss = candidate, loss
    return best
