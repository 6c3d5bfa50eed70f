"""Sentence vectors by encoders that are tuned: for each fold of the examples without it, then on all, to serve."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Final

import torch
from torch import Tensor

from worker.cpt.encoding.shots import Shots
from worker.cpt.model.sentence_encoder import SentenceEncoder
from worker.cpt.selection.costs import ENCODER_FOLDS, Costs
from worker.cpt.selection.folds import FEWEST, stratified_folds
from worker.cpt.selection.vectors import TEXTS_AT_ONCE, Vectors
from worker.cpt.tuning.contrast import ContrastiveTuner
from worker.cpt.turn import Turn

#: With fewer examples of most labels, or in all, what is known of a label stands among them. Without a fold there may
#: be one left, and of 8 examples regression on the vectors has 87.5 in place of 82.7% (twelve pairs of labels of trec,
#: agnews and Banking77). With more it may cost: 2 to 9 points of trec at 4 and 16 a label; agnews at 4 gained 3.
_FEWEST_OF_LABEL_ALONE: Final = 3
_FEWEST_ALONE: Final = 20
#: With more examples regressions know enough, and the vectors by each encoder take minutes.
MOST_EXAMPLES: Final = 2048


def tunable(encoder: SentenceEncoder, truth: tuple[int, ...]) -> bool:
    """Whether an encoder is tuned on examples with these labels, and on those outside each fold of them."""
    several = [count for count in Counter(truth).values() if count > 1]
    return encoder.upper.size > 0 and len(several) > 1 and FEWEST <= len(truth) <= MOST_EXAMPLES


@dataclass
class _Fit:
    """One encoder. seen: places of the examples that it is tuned on. change: [2, C], once it is tuned.

    vectors: [V, N, E] of what is known of the labels, if that takes part, and of the examples, as far as they are made.
    """

    seen: list[int]
    change: Tensor | None = None
    vectors: list[Tensor] = field(default_factory=list)

    @property
    def made(self) -> int:
        """Texts that have a vector."""
        return sum(part.shape[1] for part in self.vectors)


class TunedVectors:
    """The vectors by encoders that are tuned for so many `steps` each, of all that `frozen` has vectors of."""

    def __init__(self, encoder: SentenceEncoder, shots: Shots, frozen: Vectors, steps: int, seed: int) -> None:
        self._encoder = encoder
        self._steps = steps
        self._seed = seed
        self._numbers = frozen.numbers
        self._rows = frozen.of_examples()[0, self._numbers]
        self._truth = [shots.truth[number] for number in self._numbers]
        self._examples = [shots.texts[number] for number in self._numbers]
        of_label = int(median(Counter(self._truth).values()))
        alone = of_label >= _FEWEST_OF_LABEL_ALONE and len(self._truth) >= _FEWEST_ALONE
        self._names = () if alone else shots.label_texts
        self._texts = [*self._names, *self._examples]
        everything = range(len(self._numbers))
        count = max(2, min(ENCODER_FOLDS, of_label))
        self.folds = stratified_folds(everything, self._truth, count, seed)
        self._fits = [_Fit([place for place in everything if place not in set(fold)]) for fold in (*self.folds, [])]
        self._tuner: ContrastiveTuner | None = None

    @property
    def complete(self) -> bool:
        """Whether all vectors are made."""
        return self._current is None

    @property
    def begun(self) -> bool:
        """Whether a single step of the first encoder is done."""
        return self._fits[0].change is None and self._tuner is not None and self._tuner.done == 1

    @property
    def change(self) -> Tensor:
        """[2, C] of the encoder that serves, once all are complete."""
        change = self._fits[-1].change
        assert change is not None  # noqa: S101 - it is complete
        return change

    def of_fit(self, number: int) -> tuple[Tensor, Tensor | None]:
        """Vectors by the encoder of a fold; the one after the last fold is that which serves.

        [V, N, E] of the examples, and [V, L, E] of what is known of the labels, if that takes part.
        """
        found = torch.cat(self._fits[number].vectors, 1)
        names = len(self._names)
        return found[:, names:], found[:, :names] if names else None

    def step(self, costs: Costs, turn: Turn) -> float:
        """Do the next piece of work and return what it cost."""
        fit = self._current
        assert fit is not None  # noqa: S101 - else it is complete
        if fit.change is None:
            tuner = self._tuner = self._tuner or self._make_tuner(fit)
            tuner.step(turn)
            if tuner.finished:
                fit.change, self._tuner = tuner.change, None
            return costs.encoder_step(len(fit.seen))
        some = self._texts[fit.made : fit.made + TEXTS_AT_ONCE]
        fit.vectors.append(self._encoder.embed(some, turn, fit.change))
        return costs.embedding(len(some))

    @property
    def _current(self) -> _Fit | None:
        """The encoder in turn, if there is any left to do."""
        return next((fit for fit in self._fits if fit.made < len(self._texts)), None)

    def _make_tuner(self, fit: _Fit) -> ContrastiveTuner:
        texts, truth = [self._examples[place] for place in fit.seen], [self._truth[place] for place in fit.seen]
        named = [*self._names, *texts], [*range(len(self._names)), *truth]
        return ContrastiveTuner(self._encoder, *named, self._rows[fit.seen].mean(0), self._steps, self._seed)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Its state, under names that begin with `name`; the tuning in turn begins again."""
        found = {}
        for number, fit in enumerate(self._fits):
            if fit.change is not None:
                found[f"{name}.{number}.change"] = fit.change
            if fit.vectors:
                found[f"{name}.{number}.vectors"] = torch.cat(fit.vectors, 1)
        return found

    def load(self, name: str, stored: Mapping[str, Tensor]) -> None:
        """Go on from `tensors`; raises ValueError for those of other examples or another encoder."""
        for number, fit in enumerate(self._fits):
            change, vectors = stored.get(f"{name}.{number}.change"), stored.get(f"{name}.{number}.vectors")
            if change is not None and change.shape != (2, self._encoder.upper.size):
                raise ValueError("a change of another encoder")
            fit.change, fit.vectors = change, [] if vectors is None else [vectors]
            if fit.made > len(self._texts) or (fit.made and change is None):
                raise ValueError("vectors of something else")
