"""The head of a job: its features read once, itself fitted to any of the examples, and what it tells of them."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from worker.cpt.features import features
from worker.cpt.head import Head, fit_head, predict_held_out
from worker.cpt.influence import harmful_examples
from worker.cpt.shots import Shots

BeforePass = Callable[[], None]


class TextHead:
    """Heads for `shots`; `folds` hold numbers of examples, `context_length` is the model's in tokens.

    Features are read when they are first needed; `before_pass` is called before each pass of the model and what it
    raises ends the work.
    """

    def __init__(self, model: Any, shots: Shots, context_length: int, folds: Sequence[Sequence[int]]) -> None:
        self._model = model
        self._shots = shots
        self._context_length = context_length
        self._folds = folds
        self._features: Tensor | None = None
        self._held_out: Tensor | None = None

    def fit(self, kept: Sequence[int], before_pass: BeforePass) -> Head:
        """The head for the examples `kept`."""
        examples, names = self._read(before_pass)
        return fit_head(examples[:, list(kept)], self._truth[list(kept)], names)

    def held_out(self, before_pass: BeforePass) -> Tensor:
        """[N, L] log-probabilities for the examples of the folds, fold after fold, by heads that have not seen them."""
        if self._held_out is None:
            examples, names = self._read(before_pass)
            everything = range(len(self._shots))
            predicted = predict_held_out(examples, self._truth, names, self._folds, everything)
            self._held_out = predicted[[number for fold in self._folds for number in fold]]
        return self._held_out

    def harmful(self, before_pass: BeforePass) -> tuple[tuple[int, float], ...]:
        """See `harmful_examples`."""
        examples, names = self._read(before_pass)
        return harmful_examples(examples, self._truth, names, self._folds, before_pass)

    @property
    def _truth(self) -> Tensor:
        return torch.tensor(self._shots.truth)

    def _read(self, before_pass: BeforePass) -> tuple[Tensor, Tensor]:
        """[V, N, H] of all examples and [V, L, H] of the labels' names."""
        shots = self._shots
        if self._features is None:
            texts = [*shots.texts, *(label.replace("_", " ") for label in shots.labels)]
            self._features = features(self._model, shots.tokenizer, texts, self._context_length, before_pass)
        return self._features[:, : len(shots)], self._features[:, len(shots) :]
