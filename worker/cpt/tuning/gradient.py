"""Loss and gradient of one step over a context that all training examples share.

The context runs once. Its keys and values are constants with a gradient of their own ("leaves") for every training
example; the examples' backward passes add up in those gradients, which then go back through the context once. The
context itself runs in segments, each a sequel to the ones before: a segment whose graph does not fit into memory is
run again on the way back, with the same result to the bit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from worker.cpt.encoding.context import Tokens
from worker.cpt.model import base_model
from worker.cpt.model.base_model import KeysValues
from worker.cpt.model.memory import GraphMeter
from worker.cpt.model.packing import Packing, hide
from worker.cpt.tuning.loss import NO_LABEL_TOKENS, LabelTokens, training_labels, weighted_cross_entropy
from worker.cpt.turn import Turn


@dataclass
class _Segment:
    """A stretch of the context and, while it is kept, its graph."""

    start: int
    stop: int
    leaves: KeysValues
    embeds: Tensor  # [stop - start, H], a leaf
    own: KeysValues
    loss: Tensor


@dataclass(frozen=True)
class Examples:
    """Packed training examples: embeddings [N, H], tokens of each, labels by packed place, and a mask [N, T] of what
    they may not see of the context.
    """

    embeds: Tensor
    lengths: Sequence[int]
    labels: LabelTokens
    hidden: Tensor | None

    def packing(self, offset: int) -> Packing:
        """How they lie after a context of `offset` tokens."""
        return Packing.causal(self.lengths, offset, self.embeds.device, self.hidden)


class SharedContext:
    """The context within one step: `forward` each segment, `add` training examples, `backward` each segment.

    embeds: [T, H]. `context_scale` and `example_scale` multiply the weighted loss of a label token of the context and
    of a training example. `memory` is the number of bytes that graphs of segments may hold together.
    """

    def __init__(
        self,
        model: Any,
        embeds: Tensor,
        labels: LabelTokens,
        *,
        context_scale: float,
        example_scale: float,
        segment_tokens: int,
        memory: int,
    ) -> None:
        self._model = model
        self._embeds = embeds.detach()
        self._labels = labels
        self._context_scale = context_scale
        self._example_scale = example_scale
        self._memory = memory
        starts = range(0, len(embeds), segment_tokens)
        self._bounds = [(start, min(start + segment_tokens, len(embeds))) for start in starts]
        self._keep_from = 0  # segments from here on keep their graph
        self._kept: dict[int, _Segment] = {}
        self._layers: KeysValues = []  # [G, T, D]
        self._grads: KeysValues = []
        self.gradient = torch.zeros_like(self._embeds)  # [T, H], complete after every segment's backward

    @property
    def segments(self) -> range:
        """Numbers of the segments, in order."""
        return range(len(self._bounds))

    def forward(self, number: int) -> Tensor:
        """Run a segment after the ones before it; returns its loss."""
        # Metering also keeps what is read of the buffers from being taken for changed once later segments are written.
        meter = GraphMeter(self._model)
        with torch.set_grad_enabled(number >= self._keep_from), meter.metering():
            segment = self._run(number)
        if number == 0:
            self._allocate(segment.own)
            self._keep_from = max(0, len(self._bounds) - self._memory // max(meter.nbytes, 1))
        for buffers, own in zip(self._layers, segment.own, strict=True):
            for buffer, tensor in zip(buffers, own, strict=True):
                buffer[:, segment.start : segment.stop] = tensor.detach()
        if number >= self._keep_from:
            self._kept[number] = segment
        return segment.loss.detach()

    def add(self, examples: Examples) -> Tensor:
        """Run training examples after the context, forward and backward; returns their loss."""
        packing = examples.packing(len(self._embeds))
        leaves = self._leaves(len(self._embeds))
        places = torch.tensor(examples.labels.read_at, device=examples.embeds.device)
        logits, _ = base_model.run(self._model, examples.embeds, packing, leaves, places)
        loss = weighted_cross_entropy(logits, examples.labels) * self._example_scale
        self._gather(torch.autograd.grad(loss, [leaf for pair in leaves for leaf in pair]))
        return loss.detach()

    def backward(self, number: int) -> Tensor:
        """Go back through a segment, the last one first; adds nothing to the loss and so returns zero."""
        segment = self._kept.pop(number, None) or self._run(number)
        outputs, grads = [segment.loss], [torch.ones_like(segment.loss)]
        for own, gathered in zip(segment.own, self._grads, strict=True):
            outputs += own
            grads += [grad[:, segment.start : segment.stop].to(own[0].dtype) for grad in gathered]
        inputs = [segment.embeds] + [leaf for pair in segment.leaves for leaf in pair]
        found = torch.autograd.grad(outputs, inputs, grads, materialize_grads=True)
        self._gather(found[1:])
        self.gradient[segment.start : segment.stop] = found[0]
        return torch.zeros_like(segment.loss, requires_grad=False)

    def _run(self, number: int) -> _Segment:
        start, stop = self._bounds[number]
        leaves = self._leaves(start) if start else []
        embeds = self._embeds[start:stop].clone().requires_grad_()
        labels = self._labels.between(start, stop)
        packing = Packing.causal([stop - start], start, embeds.device)
        places = torch.tensor(labels.read_at or (stop - start - 1,), device=embeds.device)
        logits, own = base_model.run(self._model, embeds, packing, leaves, places)
        loss = weighted_cross_entropy(logits, labels) if len(labels) else logits.sum() * 0.0
        loss = loss * self._context_scale
        return _Segment(start, stop, leaves, embeds, own, loss)

    def _allocate(self, own: KeysValues) -> None:
        tokens = len(self._embeds)
        self._layers = [(_of_length(key, tokens), _of_length(value, tokens)) for key, value in own]
        # Sums over many chunks: in bfloat16 a small part would vanish beside a large sum.
        self._grads = [(_float32_zeros(key), _float32_zeros(value)) for key, value in self._layers]

    def _leaves(self, stop: int) -> KeysValues:
        return [
            (key[:, :stop].detach().requires_grad_(), value[:, :stop].detach().requires_grad_())
            for key, value in self._layers
        ]

    def _gather(self, grads: Sequence[Tensor]) -> None:
        flat = [grad for pair in self._grads for grad in pair]
        for total, grad in zip(flat, grads, strict=False):
            total[:, : grad.shape[1]] += grad


def _of_length(tensor: Tensor, tokens: int) -> Tensor:
    return tensor.new_empty(tensor.shape[0], tokens, tensor.shape[2], requires_grad=False)


def _float32_zeros(tensor: Tensor) -> Tensor:
    return torch.zeros_like(tensor, dtype=torch.promote_types(tensor.dtype, torch.float32))


@dataclass(frozen=True)
class Chunk:
    """Training examples that run together: at most `chunk_tokens` tokens, or one example."""

    examples: tuple[Tokens, ...]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each example."""
        return [len(example) for example in self.examples]

    @property
    def ids(self) -> list[int]:
        """Ids of all examples, end to end."""
        return [token for example in self.examples for token in example.ids]

    @property
    def labels(self) -> LabelTokens:
        """Label tokens of all examples, by packed place."""
        labels, start = NO_LABEL_TOKENS, 0
        for example in self.examples:
            labels += training_labels(example).shifted(start)
            start += len(example)
        return labels

    def hidden(self, context: Tokens, leave_one_out: bool, dropped: Callable[[], Tensor]) -> Tensor | None:
        """A mask [N, T] of what they may not see of the context; None if they see all.

        `leave_one_out` hides each example's own copy; `dropped` draws, for one example after the other, the context
        tokens [T] bool that it may not see besides.
        """
        marks = [dropped() for _ in self.examples]
        for example, marked in zip(self.examples, marks, strict=True):
            if leave_one_out and example.context_index is not None:
                first, end = context.span(example.context_index)
                marked[first:end] = True
        return hide(self.lengths, marks)

    def examples_after(
        self, model: Any, context: Tokens, leave_one_out: bool, dropped: Callable[[], Tensor]
    ) -> Examples:
        """What runs; for the rest see `hidden`."""
        embeds = base_model.word_embeddings(model, self.ids)
        return Examples(embeds, self.lengths, self.labels, self.hidden(context, leave_one_out, dropped))


def chunks(batch: Sequence[Tokens], chunk_tokens: int) -> list[Chunk]:
    """Cut a batch, in order, into chunks."""
    groups: list[list[Tokens]] = [[]]
    for example in batch:
        if groups[-1] and sum(map(len, groups[-1])) + len(example) > chunk_tokens:
            groups.append([])
        groups[-1].append(example)
    return [Chunk(tuple(group)) for group in groups]


def loss_and_gradient(
    shared: SharedContext, parts: Sequence[Callable[[], Examples]], turn: Turn
) -> tuple[float, Tensor]:
    """Loss of the examples and their context, and its gradient [T, H] by the context's embeddings.

    The turn is offered between segments and parts.
    """
    work = [partial(shared.forward, number) for number in shared.segments]
    work += [partial(_add, shared, part) for part in parts]
    work += [partial(shared.backward, number) for number in reversed(shared.segments)]
    total = torch.zeros((), device=shared.gradient.device)
    for done, piece in enumerate(work):
        if done > 0:
            turn.offer(done / len(work))
        total += piece()
    return total.item(), shared.gradient


def _add(shared: SharedContext, part: Callable[[], Examples]) -> Tensor:
    return shared.add(part())
