"""Tuning of a sentence encoder: its upper layers are changed so that texts of a label come to lie together.

By the supervised contrastive loss (Khosla et al. 2020, arXiv 2004.11362, equation 2) and AdamW.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from worker.cpt.kernels.lanes import side_by_side
from worker.cpt.model.sentence_encoder import SentenceEncoder
from worker.cpt.turn import ALONE, Turn

#: Chosen on trec, agnews and half of Banking77's labels: a temperature of 0.1 gave 2 to 8 points less than 0.2 to 0.4.
_TEMPERATURE: Final = 0.3
_LEARNING_RATE: Final = 8e-3
_WARM_UP_STEPS: Final = 3
_WEIGHT_DECAY: Final = 0.01
#: Texts of a step, those of each label that takes part in it, and their tokens, but for the first two labels.
BATCH: Final = 32
MOST_OF_LABEL: Final = 4
_BATCH_TOKENS: Final = 4096


class ContrastiveTuner:
    """Finds the change [2, C] of an encoder's upper layers for `texts` with the labels `truth`, step by step.

    center: [H] of the vectors of the texts by the encoder as it is, on the CPU. Deterministic. Two labels at least have
    two texts. done: steps so far.
    """

    def __init__(
        self,
        encoder: SentenceEncoder,
        texts: Sequence[str],
        truth: Sequence[int],
        center: Tensor,
        steps: int,
        seed: int,
    ) -> None:
        self._encoder = encoder
        self._rows = encoder.tokens(texts)
        self._truth = torch.tensor(list(truth))
        self._center = center.to(encoder.model.device)
        self._steps = steps
        self.done = 0
        self._generator = torch.Generator().manual_seed(seed % 2**63)
        self._change = torch.zeros(2, encoder.upper.size, device=encoder.model.device, requires_grad=True)
        self._optimizer = torch.optim.AdamW([self._change], weight_decay=_WEIGHT_DECAY)

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.done == self._steps

    @property
    def change(self) -> Tensor:
        """[2, C] float32 on the CPU: what has been found so far."""
        return self._change.detach().cpu().clone()

    def step(self, turn: Turn = ALONE) -> float:
        """Do the next step and return its loss (nats); the turn is offered before each pass."""
        batch = self._batch()
        loss, self._change.grad = self._gradient(batch, turn)
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate()
        self._optimizer.step()
        self.done += 1
        return loss

    def _rate(self) -> float:
        """The learning rate: it rises over the first steps, and falls in a line to nothing."""
        return _LEARNING_RATE * min(1.0, (self.done + 1) / _WARM_UP_STEPS) * (1 - self.done / self._steps)

    def _batch(self) -> list[int]:
        """Places of the texts of a step: some of each of some labels, drawn anew."""
        found: list[int] = []
        tokens = 0
        for turn, label in enumerate(self._shuffled(self._truth.unique())):
            some = self._shuffled((self._truth == label).nonzero().flatten())[:MOST_OF_LABEL]
            length = sum(len(self._rows[place]) for place in some)
            if turn > 1 and (len(found) + len(some) > BATCH or tokens + length > _BATCH_TOKENS):
                break
            found += some
            tokens += length
        return found

    def _shuffled(self, numbers: Tensor) -> list[int]:
        order = torch.randperm(len(numbers), generator=self._generator)
        shuffled: list[int] = numbers[order].tolist()
        return shuffled

    def _gradient(self, batch: Sequence[int], turn: Turn = ALONE) -> tuple[float, Tensor]:
        """The loss of a batch and its gradient [2, C]. Passes side by side are differentiated side by side."""
        rows = [self._rows[place] for place in batch]
        parts: list[list[Tensor]] = []
        order: list[int] = []
        for several in self._encoder.passes(rows):
            turn.offer()  # not while the change is on: others read the same encoder
            some = [[rows[number] for number in numbers] for numbers in several]
            with self._encoder.upper.changed(self._change):
                parts.append(side_by_side([partial(self._encoder.last_vectors, each) for each in some]))
            order += [number for numbers in several for number in numbers]
        leaves = [vectors.detach().requires_grad_() for part in parts for vectors in part]
        truth = self._truth[torch.tensor(batch)[order]].to(self._center.device)
        loss = contrastive_loss(functional.normalize(torch.cat(leaves) - self._center, dim=1), truth)
        gradients = iter(torch.autograd.grad(loss, leaves))
        found = torch.zeros_like(self._change)
        for part in parts:
            turn.offer()
            backward = [partial(self._backward, vectors, next(gradients)) for vectors in part]
            for gradient in side_by_side(backward):
                found += gradient
        return loss.item(), found

    def _backward(self, vectors: Tensor, gradient: Tensor) -> Tensor:
        return torch.autograd.grad(vectors, self._change, gradient)[0]


def contrastive_loss(rows: Tensor, truth: Tensor) -> Tensor:
    """The mean over those rows [B, H] of length 1, with labels `truth` [B], that have another of their label.

    It is 0 where there are none.
    """
    itself = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    likeness = (rows @ rows.T / _TEMPERATURE).masked_fill(itself, -torch.inf)
    same = (truth[:, None] == truth) & ~itself
    own = likeness.log_softmax(1).masked_fill(~same, 0.0).sum(1)
    count = same.sum(1)
    return -(own / count.clamp_min(1)).sum() / (count > 0).sum().clamp_min(1)
