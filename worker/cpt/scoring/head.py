"""A head: multinomial logistic regression on features of a text alone, with an L2 penalty.

What a label is called is a text too: its features join those of the examples as one more example of the label.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from worker.cpt.scoring.minimise import minimise
from worker.cpt.turn import ALONE, Turn

#: Weight of the squared norm of the head against the summed negative log-likelihood.
_PENALTY: Final = 0.02
#: Deviation below which a dimension counts as constant, as a share of the view's mean deviation.
_LEAST_DEVIATION: Final = 1e-3


@dataclass(frozen=True)
class Head:
    """Features are centred and scaled dimension by dimension, each view brought to the same length; float32 on the CPU.

    center, scale: [V, H]. weight: [V, H, L]. bias: [L].
    """

    center: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    def log_probabilities(self, features: Tensor) -> Tensor:
        """[N, L] float64 of features [V, N, H]."""
        rows = _rows(features, self.center, self.scale)
        return (rows @ self.weight.double().flatten(0, 1) + self.bias).log_softmax(1)


def fit_head(features: Tensor, truth: Tensor, names: Tensor, turn: Turn = ALONE) -> Head:
    """The head for features [V, N, H] of examples with the labels `truth` [N], and `names` [V, L, H] of all labels.

    Deterministic. The turn is offered before each small piece of work.
    """
    center = features.double().mean(1)
    deviation = features.double().std(1, correction=0)
    scale = 1 / deviation.clamp_min(_LEAST_DEVIATION * deviation.mean(1, keepdim=True).clamp_min(1e-12))
    labels = names.shape[1]
    rows = _rows(torch.cat([features, names], 1), center, scale)
    targets = torch.cat([truth, torch.arange(labels)])
    # The best weights lie in the span of the rows: fewer unknowns where rows are few.
    basis = torch.linalg.qr(rows.T).Q  # [V * H, min(N + L, V * H)]
    inside = rows @ basis

    def loss(weight: Tensor, bias: Tensor) -> Tensor:
        likelihood = functional.cross_entropy(inside @ weight + bias, targets, reduction="sum")
        return likelihood + _PENALTY / 2 * (weight.square().sum() + bias.square().sum())

    weight, bias = minimise(loss, torch.zeros(basis.shape[1], labels), torch.zeros(labels), turn=turn)
    weight = (basis @ weight).unflatten(0, center.shape)
    return Head(center.float(), scale.float(), weight.float(), bias.float())


def predict_held_out(
    features: Tensor,
    truth: Tensor,
    names: Tensor,
    folds: Sequence[Sequence[int]],
    allowed: Sequence[int],
    turn: Turn = ALONE,
) -> Tensor:
    """[N, L] float64 log-probabilities for the examples in `folds` by heads that were fitted to the `allowed` rest.

    Folds and `allowed` are numbers of examples; for the others see `fit_head`. Examples in no fold have zeros.
    """
    predicted = torch.zeros(len(truth), names.shape[1], dtype=torch.float64)
    for fold in folds:
        held_out = list(fold)
        kept = [number for number in allowed if number not in set(held_out)]
        head = fit_head(features[:, kept], truth[kept], names, turn)
        predicted[held_out] = head.log_probabilities(features[:, held_out])
    return predicted


def _rows(features: Tensor, center: Tensor, scale: Tensor) -> Tensor:
    """[N, V * H] of length 1 from features [V, N, H]."""
    views = functional.normalize((features.double() - center[:, None]) * scale[:, None], dim=2)
    return views.transpose(0, 1).flatten(1) / math.sqrt(len(views))
