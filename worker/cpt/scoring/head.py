"""A head: multinomial logistic regression on frozen features, with an L2 penalty that held-out rows choose.

What a label is called, or described as, may stand among the rows as two more examples of it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from worker.cpt.scoring.minimise import minimise
from worker.cpt.turn import ALONE, Turn

#: Weights of the squared norm of a head against the summed negative log-likelihood, the strongest first.
PENALTIES: Final = (0.1, 0.03, 0.01, 0.003)
#: Where too few examples are held out to choose one.
USUAL_PENALTY: Final = 0.01
_FEWEST_JUDGED: Final = 2
#: Held-out examples whose penalty serves for the folds after them: of twelve draws of 1,000 examples, in folds of 200,
#: none would have taken another by all folds.
ENOUGH_JUDGED: Final = 200
#: Examples that a label's name counts as: 1 to 10 points for the encoder's head at 2 to 4 examples of each label (trec,
#: agnews, Banking77), none lost at 8; twice as good as once by 0.3 points.
_NAME_COUNT: Final = 2.0
#: Rows that a view's mean deviation counts as, when the deviation of a dimension is estimated: two rows tell little.
_PRIOR_ROWS: Final = 4
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


@dataclass(frozen=True)
class CrossFit:
    """Log-probabilities [N, L] float64 by heads that have not seen what they predict, and the penalty that did best."""

    penalty: float
    predicted: Tensor


@dataclass(frozen=True)
class LabelledFeatures:
    """Features [V, N, H] of examples with the labels `truth` [N], and perhaps of all labels' names [V, L, H]."""

    features: Tensor
    truth: Tensor
    labels: int
    names: Tensor | None = None

    @property
    def first_view(self) -> "LabelledFeatures":
        """The same with the first view alone."""
        return replace(self, features=self.features[:1], names=None if self.names is None else self.names[:1])

    def fit(self, penalty: float, turn: Turn = ALONE) -> Head:
        """The head for all examples. Deterministic. The turn is offered at each step of the fit."""
        return Regression(self, range(len(self.truth))).solve(penalty, turn)

    def cross_fit(self, folds: Sequence[Sequence[int]], judged: Sequence[int], turn: Turn = ALONE) -> CrossFit:
        """Predict each fold, numbers of examples, by heads for the rest; the penalty has the least loss on `judged`.

        Examples in no fold have zeros.
        """
        return cross_fit([(self, fold) for fold in folds], judged, turn)


def cross_fit(
    folds: Sequence[tuple[LabelledFeatures, Sequence[int]]], judged: Sequence[int], turn: Turn = ALONE
) -> CrossFit:
    """As `LabelledFeatures.cross_fit`, where each fold of the same examples has features of its own.

    Where too few are judged, all predictions are even and the penalty is the usual one. Where the folds so far have
    `ENOUGH_JUDGED`, the penalty that did best on them predicts the others.
    """
    first = folds[0][0]
    if len(judged) < _FEWEST_JUDGED:
        nothing = torch.zeros(len(first.truth), first.labels, dtype=torch.float64)
        return CrossFit(USUAL_PENALTY, nothing.log_softmax(1))
    predicted = torch.zeros(len(PENALTIES), len(first.truth), first.labels, dtype=torch.float64)
    places, counted, seen = list(range(len(PENALTIES))), set(judged), set[int]()
    for given, fold in folds:
        out = set(fold)
        problem = Regression(given, [number for number in range(len(given.truth)) if number not in out])
        for place in places:
            head = problem.solve(PENALTIES[place], turn)
            predicted[place, list(fold)] = head.log_probabilities(given.features[:, list(fold)])
        seen |= counted & out
        if len(seen) >= ENOUGH_JUDGED and len(places) > 1:
            places = [_best(predicted, first.truth, sorted(seen))]
    best = _best(predicted, first.truth, judged) if len(places) > 1 else places[0]
    return CrossFit(PENALTIES[best], predicted[best])


def _best(predicted: Tensor, truth: Tensor, judged: Sequence[int]) -> int:
    """The place among `predicted` [P, N, L] with the least loss on some rows."""
    rows = list(judged)
    losses = [functional.nll_loss(each[rows], truth[rows]).item() for each in predicted]
    return min(range(len(losses)), key=losses.__getitem__)


class Regression:
    """The regression for some of the examples, `kept`; each solution is the start of the next."""

    def __init__(self, given: LabelledFeatures, kept: Sequence[int]) -> None:
        rows, self._center, self._scale = _scaled(given, kept)
        self._targets = torch.cat(
            [given.truth[list(kept)], torch.arange(given.labels if given.names is not None else 0)]
        )
        names_count = torch.full((len(self._targets) - len(kept),), _NAME_COUNT)
        self._counts = torch.cat([torch.ones(len(kept)), names_count]).double()
        # The best weights lie in the span of the rows: fewer unknowns where rows are few.
        self._basis = torch.linalg.qr(rows.T).Q  # [V * H, min(N + L, V * H)]
        self._inside = rows @ self._basis
        self._start = torch.zeros(self._basis.shape[1], given.labels), torch.zeros(given.labels)

    def solve(self, penalty: float, turn: Turn = ALONE, *, left_out: int | None = None) -> Head:
        """The head of this penalty, for all but the example at the place `left_out` if there is one."""
        counts = self._counts.clone()
        if left_out is not None:
            counts[left_out] = 0

        def loss(weight: Tensor, bias: Tensor) -> Tensor:
            losses = functional.cross_entropy(self._inside @ weight + bias, self._targets, reduction="none")
            return (counts * losses).sum() + penalty / 2 * (weight.square().sum() + bias.square().sum())

        weight, bias = minimise(loss, *self._start, turn=turn)
        self._start = weight, bias
        whole = (self._basis @ weight).unflatten(0, self._center.shape)
        return Head(self._center.float(), self._scale.float(), whole.float(), bias.float())


def _scaled(given: LabelledFeatures, kept: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Rows [N + L, V * H] of the examples, and of the names if there are any, with the examples' center and scale."""
    features = given.features[:, list(kept)]
    center, scale = features.double().mean(1), 1 / _deviation(features)
    if given.names is not None:
        features = torch.cat([features, given.names], 1)
    return _rows(features, center, scale), center, scale


def _deviation(features: Tensor) -> Tensor:
    """[V, H] standard deviations, shrunk towards the mean of their view."""
    variance, rows = features.double().var(1, correction=0), features.shape[1]
    mean = variance.mean(1, keepdim=True).clamp_min(1e-24)
    shrunk = (rows * variance + _PRIOR_ROWS * mean) / (rows + _PRIOR_ROWS)
    return shrunk.sqrt().clamp_min(_LEAST_DEVIATION * mean.sqrt())


def _rows(features: Tensor, center: Tensor, scale: Tensor) -> Tensor:
    """[N, V * H] of length 1 from features [V, N, H]."""
    views = features.to(torch.float64, copy=True)  # changed in place: of 10,000 rows each copy is 60 MB
    views.sub_(center[:, None]).mul_(scale[:, None])
    functional.normalize(views, dim=2, out=views)
    return views.transpose(0, 1).flatten(1).div_(math.sqrt(len(views)))
