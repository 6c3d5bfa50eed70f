"""Sentence vectors of a search: of what is known of the labels, then of the examples, of each label in proportion."""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from worker.cpt.encoding.shots import Shots
from worker.cpt.model.sentence_encoder import SentenceEncoder
from worker.cpt.selection.folds import FEWEST, in_proportion
from worker.cpt.turn import Turn

#: Texts that are embedded in one step of a search.
TEXTS_AT_ONCE: Final = 128
_SMALLEST: Final = 1e-12


class Vectors:
    """The vectors of `shots`, made block by block; without an encoder there are none."""

    def __init__(self, encoder: SentenceEncoder | None, shots: Shots, most: int | None = None) -> None:
        self._encoder = encoder
        self._names = len(shots.label_texts)
        self._order = in_proportion(range(len(shots)), shots.truth)[:most]
        self._texts = [*shots.label_texts, *(shots.texts[number] for number in self._order)]
        self._count = len(shots)
        self._found = encoder.embed([]) if encoder else torch.zeros(0, 0, 0)
        self._cut = encoder is None

    @property
    def complete(self) -> bool:
        """Whether all are made, or no more will be."""
        return self._cut or self.whole

    @property
    def whole(self) -> bool:
        """Whether all are made."""
        return self.missing == 0

    @property
    def missing(self) -> int:
        """Texts that are to be embedded yet."""
        return len(self._texts) - self._made

    @property
    def _made(self) -> int:
        return self._found.shape[1]

    @property
    def examples(self) -> int:
        """Examples that have one."""
        return max(0, self._made - self._names)

    @property
    def numbers(self) -> list[int]:
        """Numbers of the examples that have one, in order."""
        return sorted(self._order[: self.examples])

    def make(self, turn: Turn) -> int:
        """Make the next block and return how many texts it had."""
        assert self._encoder is not None  # noqa: S101 - else it is complete
        some = self._texts[self._made : self._made + TEXTS_AT_ONCE]
        self._found = torch.cat([self._found, self._encoder.embed(some, turn)], 1)
        return len(some)

    def cut(self) -> None:
        """Make no more, unless fewer examples have one than are split into folds."""
        self._cut = self.examples >= FEWEST

    def of_examples(self) -> Tensor:
        """[V, N, E] of V layers, the last first; zeros for examples that have none."""
        views, _, size = self._found.shape
        found = torch.zeros(views, self._count, size)
        found[:, self._order[: self.examples]] = self._found[:, self._names :]
        return found

    def of_labels(self) -> Tensor | None:
        """[V, L, E] of what is known of the labels, if anything is."""
        return self._found[:, : self._names] if self._names else None

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Its state, under names that begin with `name`."""
        return {name: self._found, f"{name}_cut": torch.tensor(self._cut)}

    def load(self, name: str, stored: Mapping[str, Tensor]) -> None:
        """Go on from `tensors`; raises KeyError or ValueError for those of other examples or another encoder."""
        found = stored[name]
        views, made, size = found.shape
        if (views, size) != (self._found.shape[0], self._found.shape[2]) or made > len(self._texts):
            raise ValueError("vectors of something else")
        self._found, self._cut = found, bool(stored[f"{name}_cut"])


def nearest_mean(rows: Tensor, truth: Tensor) -> Tensor:
    """[N] labels whose mean vector, of their other examples, is most like each row of `rows` [N, E] with labels [N].

    Prototypes (Snell et al. 2017, arXiv 1703.05175) of centred vectors of length 1.
    """
    centred = functional.normalize(rows.double() - rows.double().mean(0), dim=1)
    own = functional.one_hot(truth).double()  # [N, L]
    sums = own.T @ centred
    toward = centred @ sums.T - own
    length = (sums.square().sum(1) - own * (2 * toward + own)).clamp_min(_SMALLEST)
    return (toward / length.sqrt()).argmax(1)
