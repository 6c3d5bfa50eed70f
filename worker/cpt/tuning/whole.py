"""A step whose context and training examples run in one pass: where nothing is cut, nothing is kept apart."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from worker.cpt.model import base_model
from worker.cpt.model.packing import Packing
from worker.cpt.tuning.gradient import Chunk
from worker.cpt.tuning.loss import LabelTokens, scales
from worker.cpt.turn import ALONE, Turn


class WholeStep:
    """Loss and gradient of a context of `context` tokens and the training examples of a chunk, who ride on its pass.

    What does not change from step to step lies on the device, so that the step can be recorded.
    """

    def __init__(self, model: Any, context: int, labels: LabelTokens, chunk: Chunk) -> None:
        self.chunk = chunk
        self.tokens = context + sum(chunk.lengths)
        self._model = model
        self._examples = base_model.word_embeddings(model, chunk.ids)
        self._packing = Packing.causal([context], 0, model.device)
        self._riders = Packing.causal(chunk.lengths, context, model.device)
        of_context, of_example = scales(labels, chunk.examples)
        ridden = chunk.labels.shifted(context)
        weights = [weight * of_context for weight in labels.weights] + [
            weight * of_example for weight in ridden.weights
        ]
        both = labels + ridden
        self._places = torch.tensor(both.read_at, device=model.device)
        self._ids = torch.tensor(both.ids, device=model.device)
        self._weights = torch.tensor(weights, device=model.device)

    def __call__(self, embeds: Tensor, hidden: Tensor | None = None, *, turn: Turn = ALONE) -> tuple[Tensor, Tensor]:
        """The loss, and its gradient [T, H] by the context's embeddings `embeds` [T, H].

        `hidden` [N, T] masks what the examples may not see of the context. The turn is offered between the two.
        """
        leaf = embeds.detach().requires_grad_()
        riders = replace(self._riders, context_mask=None if hidden is None else hidden[None])
        rows = torch.cat([leaf, self._examples.to(leaf)])
        logits, _ = base_model.run(self._model, rows, self._packing, None, self._places, riders)
        losses = functional.cross_entropy(logits.float(), self._ids, reduction="none")  # [n]
        loss = (losses * self._weights).sum()
        turn.offer(0.5)
        (gradient,) = torch.autograd.grad(loss, leaf)
        return loss.detach(), gradient
