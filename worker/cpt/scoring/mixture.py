"""A mixture of predictions: a weighted sum of their log-probabilities and a bias for each label.

With one part the weight is an inverse temperature (temperature scaling, Guo et al. 2017). Weights and bias are fitted
to held-out predictions, with a prior for what is usual: a few examples move them a little, many decide.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from worker.cpt.scoring.minimise import minimise

#: Standard deviations of the prior: of the logarithm of a weight, and of a label's bias (nats).
_WEIGHT_SPREAD: Final = 0.5
_BIAS_SPREAD: Final = 0.5


@dataclass(frozen=True)
class Mixture:
    """Weights [M] of the parts, above zero, and a bias [L]; float32 on the CPU."""

    weights: Tensor
    bias: Tensor

    def probabilities(self, parts: Tensor) -> Tensor:
        """[N, L] float64 from log-probabilities [M, N, L]."""
        return (torch.einsum("m,mnl->nl", self.weights.double(), parts.double()) + self.bias).softmax(1)


def usual_mixture(weights: Sequence[float], labels: int) -> Mixture:
    """The prior's own, for when there is nothing to fit to."""
    return Mixture(torch.tensor(list(weights)), torch.zeros(labels))


def fit_mixture(parts: Tensor, truth: Tensor, usual: Sequence[float]) -> Mixture:
    """The mixture for held-out log-probabilities [M, N, L] of examples with the labels `truth` [N].

    `usual` are the weights [M] around which the prior lies. Deterministic.
    """
    centre, parts = torch.tensor(list(usual)).double().log(), parts.double()

    def loss(logarithms: Tensor, bias: Tensor) -> Tensor:
        logits = torch.einsum("m,mnl->nl", logarithms.exp(), parts) + bias
        prior = ((logarithms - centre) / _WEIGHT_SPREAD).square().sum() + (bias / _BIAS_SPREAD).square().sum()
        return functional.cross_entropy(logits, truth, reduction="sum") + prior / 2

    logarithms, bias = minimise(loss, centre, torch.zeros(parts.shape[2]))
    return Mixture(logarithms.exp().float(), bias.float())
