"""A head: multinomial logistic regression on one view's features, with an L2 penalty."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from worker.cpt.minimise import minimise

#: Weight of the squared norm of the head against the summed negative log-likelihood.
_PENALTY: Final = 0.02
#: Deviation below which a dimension counts as constant, as a share of the mean deviation.
_LEAST_DEVIATION: Final = 1e-3


@dataclass(frozen=True)
class Head:
    """Features are centred and scaled dimension by dimension, then brought to length 1; all float32 on the CPU.

    center, scale: [H]. weight: [H, L]. bias: [L].
    """

    center: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    def log_probabilities(self, features: Tensor) -> Tensor:
        """[N, L] float64 of features [N, H]."""
        rows = functional.normalize((features.double() - self.center) * self.scale, dim=1)
        return (rows @ self.weight.double() + self.bias).log_softmax(1)


def fit_head(features: Tensor, truth: Tensor, labels: int) -> Head:
    """The head for features [N, H] whose labels have the numbers `truth` [N], of `labels` in all. Deterministic."""
    center = features.double().mean(0)
    deviation = features.double().std(0, correction=0)
    scale = 1 / deviation.clamp_min(_LEAST_DEVIATION * deviation.mean().clamp_min(1e-12))
    rows = functional.normalize((features.double() - center) * scale, dim=1)
    # The best weights lie in the span of the rows: fewer unknowns where rows are few.
    basis = torch.linalg.qr(rows.T).Q  # [H, min(N, H)]
    inside = rows @ basis

    def loss(weight: Tensor, bias: Tensor) -> Tensor:
        likelihood = functional.cross_entropy(inside @ weight + bias, truth, reduction="sum")
        return likelihood + _PENALTY / 2 * (weight.square().sum() + bias.square().sum())

    weight, bias = minimise(loss, torch.zeros(basis.shape[1], labels), torch.zeros(labels))
    return Head(center.float(), scale.float(), (basis @ weight).float(), bias.float())
