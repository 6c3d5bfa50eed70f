"""The encoder's part of what serves: heads on the vectors of the encoder that held-out examples speak for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from torch import Tensor

from worker.cpt.model.sentence_encoder import SentenceEncoder
from worker.cpt.scoring.head import CrossFit, LabelledFeatures, cross_fit
from worker.cpt.selection.choice import FEWEST_DECIDING, choose, losses
from worker.cpt.selection.encoding import Encoding
from worker.cpt.selection.tuned_vectors import TunedVectors
from worker.cpt.selection.vectors import Vectors
from worker.cpt.turn import ALONE, Turn

#: Held-out rows that turn a tuned encoder down at least. 16 of agnews did so where tuning gave 11 points.
FEWEST_AGAINST_TUNING: Final = 2 * FEWEST_DECIDING


@dataclass(frozen=True)
class EncoderPart:
    """What a head on sentence vectors is fitted to, and how such heads predict what they have not seen.

    change: [2, C] of the encoder's upper layers, None for the encoder as it is.
    """

    given: LabelledFeatures
    fit: CrossFit
    change: Tensor | None = None

    def unless(self, other: EncoderPart, fewest: int = FEWEST_DECIDING) -> EncoderPart:
        """This one, unless `fewest` held-out rows at least say that the other is better beyond chance."""
        found = {0: self, 1: other}
        told = {number: losses(part.fit.predicted.exp(), part.given.truth) for number, part in found.items()}
        return found[choose(0, told, fewest)]


@dataclass(frozen=True)
class ServingEncoder:
    """The encoder that serves, with its part, and its part as it is where it is tuned.

    steps: of its tuning, 0 for none.
    """

    encoder: SentenceEncoder
    part: EncoderPart
    frozen: EncoderPart
    steps: int

    @classmethod
    def of(
        cls, encoding: Encoding, truth: Tensor, labels: int, folds: Sequence[Sequence[int]], turn: Turn = ALONE
    ) -> ServingEncoder:
        """The first encoder, tuned if it was, unless held-out examples say that another one is better beyond chance.

        truth: [N] of the examples that have vectors. folds: of their places, for heads on encoders as they are.
        """
        frozen = part = frozen_part(encoding.frozen, truth, labels, folds, turn)
        if encoding.tuned is not None:
            part = tuned_part(encoding.tuned, truth, labels, turn).unless(frozen, FEWEST_AGAINST_TUNING)
        found = cls(encoding.encoders[0], part, frozen, 0 if part.change is None else encoding.steps)
        for encoder, vectors in zip(encoding.encoders[1:], encoding.others, strict=False):
            other = frozen_part(vectors, truth, labels, folds, turn)
            fewest = FEWEST_AGAINST_TUNING if found.steps else FEWEST_DECIDING
            if found.part.unless(other, fewest) is other:
                found = cls(encoder, other, other, 0)
        return found


def frozen_part(
    frozen: Vectors, truth: Tensor, labels: int, folds: Sequence[Sequence[int]], turn: Turn = ALONE
) -> EncoderPart:
    """The encoder as it is, for the examples that have vectors, whose labels are `truth` [N]; see `views_of`."""
    rows = LabelledFeatures(frozen.of_examples()[:, frozen.numbers], truth, labels, frozen.of_labels())
    return views_of(rows, [(rows, fold) for fold in folds], turn=turn)


def views_of(
    every: LabelledFeatures,
    folds: Sequence[tuple[LabelledFeatures, Sequence[int]]],
    change: Tensor | None = None,
    turn: Turn = ALONE,
) -> EncoderPart:
    """The first view of the features alone, or all where that is better beyond chance, as folds are predicted.

    `every` are those that serve; each fold is predicted by features of its own.
    """
    rows = range(len(every.truth))
    first = [(given.first_view, fold) for given, fold in folds]
    one = EncoderPart(every.first_view, cross_fit(first, rows, turn), change)
    return one.unless(EncoderPart(every, cross_fit(folds, rows, turn), change))


def tuned_part(tuned: TunedVectors, truth: Tensor, labels: int, turn: Turn = ALONE) -> EncoderPart:
    """The encoder as it is tuned. Each fold is predicted by an encoder, and by a head on it, that have not seen it."""

    def labelled(number: int) -> LabelledFeatures:
        rows, names = tuned.of_fit(number)
        return LabelledFeatures(rows, truth, labels, names)

    folds = [(labelled(number), fold) for number, fold in enumerate(tuned.folds)]
    return views_of(labelled(len(folds)), folds, tuned.change, turn)
