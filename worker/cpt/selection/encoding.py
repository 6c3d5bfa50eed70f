"""What encoders add to a search: vectors of the examples by each, and by the first as it is tuned where time allows."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from worker.cpt.encoding.shots import Shots
from worker.cpt.model.sentence_encoder import SentenceEncoder
from worker.cpt.selection.choice import FEW_LABELS, FEWEST_DECIDING, beyond_chance
from worker.cpt.selection.costs import Costs
from worker.cpt.selection.tuned_vectors import MOST_EXAMPLES, TunedVectors, tunable
from worker.cpt.selection.vectors import Vectors, nearest_mean
from worker.cpt.turn import Turn


def taking_part(encoders: Sequence[SentenceEncoder], examples: int) -> tuple[SentenceEncoder, ...]:
    """The encoders that vectors of so many examples are made by, the first of which serves unless others are better.

    Few held-out examples cannot speak for another, and with many the first knows enough.
    """
    return tuple(encoders) if FEWEST_DECIDING <= examples <= MOST_EXAMPLES else tuple(encoders[:1])


class Encoding:
    """The vectors of `shots`; without encoders there are none, without `steps` none by encoders that are tuned.

    encoders: those of the given ones that take part.
    """

    def __init__(self, encoders: Sequence[SentenceEncoder], shots: Shots, steps: int, seed: int) -> None:
        self.encoders = taking_part(encoders, len(shots))
        encoder = self._encoder = self.encoders[0] if self.encoders else None
        self._shots = shots
        self._steps = steps
        self._seed = seed
        self._tuned: TunedVectors | None = None
        self._tuning_left = encoder is not None and steps > 0 and tunable(encoder, shots.truth)
        self.frozen = Vectors(encoder, shots)
        self._others = tuple(Vectors(other, shots) for other in self.encoders[1:])
        self._others_dropped = False

    @property
    def complete(self) -> bool:
        """Whether there is nothing left to do."""
        return self.frozen.complete and self._other is None and not self._tuning_left

    @property
    def others(self) -> tuple[Vectors, ...]:
        """The vectors by the encoders after the first; none where there was no time."""
        return () if self._others_dropped else self._others

    @property
    def _other(self) -> int | None:
        """The place among the others of the encoder in turn, if there is any left to do."""
        return next((place for place, vectors in enumerate(self.others) if not vectors.whole), None)

    @property
    def tuned(self) -> TunedVectors | None:
        """The vectors by encoders that are tuned, once complete; None where there is none, or there was no time."""
        return None if self._tuning_left else self._tuned

    @property
    def steps(self) -> int:
        """Steps of tuning of each encoder; 0 where there are none, or there was no time for them."""
        return self._steps if self._tuning_left or self._tuned is not None else 0

    def cost(self, costs: Costs) -> float:
        """Floating-point operations of all that is to be done or was."""
        encoders = range(1 + len(self.others)) if self.encoders else range(0)
        tuning = costs.encoder_tuning(self.steps) if self.steps else 0.0
        return sum(costs.embedding(self._texts, encoder) for encoder in encoders) + tuning

    @property
    def _texts(self) -> int:
        """Texts that each encoder makes vectors of: what is known of the labels, and the examples."""
        return len(self._shots.label_texts) + len(self._shots)

    def step(self, costs: Costs, left: float, seconds: Callable[[float], float], turn: Turn) -> float:
        """Do the next piece of work, for which `left` seconds are left, and return what it cost.

        seconds: what so many floating-point operations take. Vectors end with those that are made where no time is
        left; those of other encoders, and tuning, are dropped as a whole.
        """
        if not self.frozen.complete:
            cost = costs.embedding(self.frozen.make(turn))
            if left < 0:
                self.frozen.cut()
            return cost
        if (place := self._other) is not None:
            rest = sum(costs.embedding(vectors.missing, encoder) for encoder, vectors in enumerate(self._others, 1))
            self._others_dropped = left < 0 or not self.frozen.whole or seconds(rest) > left
            made = 0 if self._others_dropped else self._others[place].make(turn)
            return costs.embedding(made, 1 + place)
        if self._tuned is None:
            if not self.frozen.whole or self.surpassed:
                return self._drop()
            assert self._encoder is not None  # noqa: S101 - else nothing is left to tune
            self._tuned = TunedVectors(self._encoder, self._shots, self.frozen, self._steps, self._seed)
        # The first piece of a job is slow, and few vectors are made in no time: a step tells how long others take.
        if left < 0 or (self._tuned.begun and seconds(costs.encoder_tuning(self._steps)) > left):
            return self._drop()
        cost = self._tuned.step(costs, turn)
        self._tuning_left = not self._tuned.complete
        return cost

    @property
    def surpassed(self) -> bool:
        """Whether labels are many and another encoder tells them apart better beyond chance, both as they are.

        The first is then not tuned: that takes up to a third of the usual budget, and of twenty draws of Banking77 an
        encoder that was tuned served in one.
        """
        if len(self._shots.labels) <= FEW_LABELS or not self.frozen.whole:
            return False
        truth = torch.tensor(self._shots.truth)
        wrong = [(nearest_mean(one.of_examples()[0], truth) != truth).double() for one in (self.frozen, *self.others)]
        return any(beyond_chance(other, wrong[0]) for other in wrong[1:])

    def _drop(self) -> float:
        self._tuned, self._tuning_left = None, False
        return 0.0

    def tensors(self) -> dict[str, Tensor]:
        """Its state."""
        found = self.frozen.tensors("vectors") | {"encoder_tuning_left": torch.tensor(self._tuning_left)}
        for place, vectors in enumerate(self.others):
            found |= vectors.tensors(f"other_vectors.{place}")
        return found if self._tuned is None else found | self._tuned.tensors("encoder")

    def load(self, stored: Mapping[str, Tensor]) -> None:
        """Go on from `tensors`; raises KeyError or ValueError for those of other examples or another encoder."""
        self.frozen.load("vectors", stored)
        dropped = "other_vectors.0" not in stored
        for place, vectors in enumerate(() if dropped else self._others):
            vectors.load(f"other_vectors.{place}", stored)
        self._others_dropped = dropped
        left = bool(stored["encoder_tuning_left"])
        tuned = None
        if any(name.startswith("encoder.") for name in stored):
            if self._encoder is None or not self._steps:
                raise ValueError("an encoder that is tuned")
            tuned = TunedVectors(self._encoder, self._shots, self.frozen, self._steps, self._seed)
            tuned.load("encoder", stored)
            if tuned.complete == left:
                raise ValueError("encoders are missing")
        self._tuned, self._tuning_left = tuned, left
