"""A mixture of predictions: a weighted sum of their log-probabilities and a bias for each label.

With one part the weight is an inverse temperature (temperature scaling, Guo et al. 2017). Weights and bias are fitted
to held-out predictions, with a prior: a few examples move them a little, many decide, and can silence a part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from worker.cpt.scoring.minimise import minimise
from worker.cpt.turn import ALONE, Turn

#: Standard deviations of the prior: of a weight, and of a label's bias (nats).
_WEIGHT_SPREAD: Final = 0.3
_BIAS_SPREAD: Final = 0.5


@dataclass(frozen=True)
class Mixture:
    """Weights [M] of the parts, 0 or more, and a bias [L]; float32 on the CPU."""

    weights: Tensor
    bias: Tensor

    def logits(self, parts: Tensor) -> Tensor:
        """[N, L] float64 from log-probabilities [M, N, L]."""
        return torch.einsum("m,mnl->nl", self.weights.double(), parts.double()) + self.bias

    def probabilities(self, parts: Tensor) -> Tensor:
        """[N, L] float64 from log-probabilities [M, N, L]."""
        return self.logits(parts).softmax(1)


def prior_mixture(weights: Sequence[float], labels: int) -> Mixture:
    """The prior's own, for when there is nothing to fit to."""
    return Mixture(torch.tensor(list(weights)), torch.zeros(labels))


def fit_mixture(parts: Tensor, truth: Tensor, prior: Sequence[float], turn: Turn = ALONE) -> Mixture:
    """The mixture for held-out log-probabilities [M, N, L] of examples with the labels `truth` [N].

    `prior` are the weights [M] around which the prior lies. Deterministic.
    """
    centre, kept = torch.tensor(list(prior)).double(), list(range(len(prior)))
    while True:
        weights, bias = _solve(parts[kept].double(), truth, centre[kept], turn)
        if not (weights < 0).any():
            break
        # The loss is convex: parts that would count against what they say count nothing.
        kept = [part for part, weight in zip(kept, weights.tolist(), strict=True) if weight >= 0]
    found = torch.zeros(len(prior), dtype=torch.float64)
    found[kept] = weights
    return Mixture(found.float(), bias.float())


def _solve(parts: Tensor, truth: Tensor, centre: Tensor, turn: Turn) -> tuple[Tensor, Tensor]:
    """Weights, of either sign, and bias."""

    def loss(weights: Tensor, bias: Tensor) -> Tensor:
        logits = torch.einsum("m,mnl->nl", weights, parts) + bias
        distance = ((weights - centre) / _WEIGHT_SPREAD).square().sum() + (bias / _BIAS_SPREAD).square().sum()
        return functional.cross_entropy(logits, truth, reduction="sum") + distance / 2

    weights, bias = minimise(loss, centre, torch.zeros(parts.shape[2]), turn=turn)
    return weights, bias
