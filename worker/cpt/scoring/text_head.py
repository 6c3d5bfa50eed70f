"""The head of a job: its features read once, itself fitted to the examples, and what it tells of them."""

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor

from worker.cpt.encoding.shots import Shots
from worker.cpt.scoring.features import features
from worker.cpt.scoring.head import Head, fit_head, predict_held_out
from worker.cpt.selection.folds import spread
from worker.cpt.selection.influence import harmful_examples
from worker.cpt.turn import Turn

#: Examples that are read besides the held-out ones, at most: reading one costs 1.5 times what a step does for it.
MOST_READ: Final = 512


class TextHead:
    """Heads for `shots`; `folds` hold numbers of examples, `context_length` is the model's in tokens.

    Features are read when they are first needed, of at most `MOST_READ` examples, evenly from each label, and of those
    in the folds. The turn is offered before each pass of the model and each step of a fit.
    """

    def __init__(self, model: Any, shots: Shots, context_length: int, folds: Sequence[Sequence[int]]) -> None:
        self._model = model
        self._shots = shots
        self._context_length = context_length
        some = spread(range(len(shots)), shots.truth, MOST_READ)
        self._numbers = sorted({*some, *(number for fold in folds for number in fold)})
        places = {number: place for place, number in enumerate(self._numbers)}
        self._folds = [[places[number] for number in fold] for fold in folds]
        self._truth = torch.tensor([shots.truth[number] for number in self._numbers])
        self._features: Tensor | None = None
        self._held_out: Tensor | None = None

    def fit(self, turn: Turn) -> Head:
        """The head for all examples that are read."""
        examples, names = self._read(turn)
        return fit_head(examples, self._truth, names, turn)

    def held_out(self, turn: Turn) -> Tensor:
        """[N, L] log-probabilities for the examples of the folds, fold after fold, by heads that have not seen them."""
        if self._held_out is None:
            examples, names = self._read(turn)
            everything = range(len(self._numbers))
            predicted = predict_held_out(examples, self._truth, names, self._folds, everything, turn)
            self._held_out = predicted[[place for fold in self._folds for place in fold]]
        return self._held_out

    def harmful(self, turn: Turn) -> tuple[tuple[int, float], ...]:
        """See `harmful_examples`."""
        examples, names = self._read(turn)
        found = harmful_examples(examples, self._truth, names, self._folds, turn)
        return tuple((self._numbers[place], gain) for place, gain in found)

    def _read(self, turn: Turn) -> tuple[Tensor, Tensor]:
        """[V, N, H] of the examples that are read and [V, L, H] of the labels' names."""
        shots = self._shots
        if self._features is None:
            texts = [shots.texts[number] for number in self._numbers]
            texts += [label.replace("_", " ") for label in shots.labels]
            self._features = features(self._model, shots.tokenizer, texts, self._context_length, turn)
        return self._features[:, : len(self._numbers)], self._features[:, len(self._numbers) :]
