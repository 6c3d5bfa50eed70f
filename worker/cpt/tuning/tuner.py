"""Tuning: AdamW on the deltas of a context, one update per step. Knows nothing of jobs or checkpoint files."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor

from worker.cpt.encoding.context import Context, Tokens
from worker.cpt.kernels.copies import on_device
from worker.cpt.kernels.recording import Recordings
from worker.cpt.model.base_model import prepare
from worker.cpt.model.memory import free_memory
from worker.cpt.model.sizes import ON_CPU, recorded_tokens
from worker.cpt.tuning.config import CPTConfig
from worker.cpt.tuning.embedding import CPTEmbedding
from worker.cpt.tuning.gradient import Chunk, Examples, SharedContext, chunks, loss_and_gradient
from worker.cpt.tuning.loss import context_labels, scales, training_labels
from worker.cpt.tuning.whole import WholeStep
from worker.cpt.turn import ALONE, Turn

CHUNK_TOKENS = ON_CPU.chunk_tokens
#: Of a step with something hidden from its examples, and with nothing.
_RECORDINGS: Final = 2


@dataclass(frozen=True)
class TuningSettings:
    """How to tune. A `batch_size` of None trains on every training example in each step.

    `leave_one_out` hides a training example's own copy in the context from it. `token_dropout` is the probability with
    which a token of the context is hidden from a training example in a step (Context Tuning, arXiv 2507.04221).
    `cosine` lets the learning rate fall along half a cosine, from its full value to nothing after the last step.
    `epsilon_unit` is the radius that an epsilon of 1 stands for, the reference's if None.
    """

    steps: int = 20
    learning_rate: float = 1e-3
    batch_size: int | None = None
    seed: int = 0
    leave_one_out: bool = False
    token_dropout: float = 0.0
    cosine: bool = False
    epsilon_unit: float | None = None

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        return (
            self.learning_rate * (1 + math.cos(math.pi * step / self.steps)) / 2 if self.cosine else self.learning_rate
        )

    def __post_init__(self) -> None:
        if self.steps < 0 or (self.batch_size is not None and self.batch_size < 1):
            raise ValueError("steps must be 0 or more and batch_size 1 or more.")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError("learning_rate must be a finite number above 0.")
        if not 0 <= self.token_dropout < 1:
            raise ValueError("token_dropout must be at least 0 and below 1.")


class Tuner:
    """Tunes one context on training examples for a frozen transformers model.

    Work is cut into chunks of `chunk_tokens`; the result depends on it by no more than rounding. `memory` bounds, in
    bytes, what graphs of the context may hold (half of what is free, if not given) and changes nothing in the result.
    A step of at most `recorded` tokens that comes again is recorded (as many as suits the device, if not given).
    `held_out` are examples of the context, by their place, whose labels are in no loss: others read them all the same.

    Raises:
        ValueError: no training examples, one that is malformed, a config of another context, a model that is not
            supported.
    """

    def __init__(
        self,
        model: Any,
        context: Context,
        training: Sequence[Tokens],
        config: CPTConfig,
        settings: TuningSettings,
        *,
        chunk_tokens: int = CHUNK_TOKENS,
        memory: int | None = None,
        recorded: int | None = None,
        held_out: Collection[int] = (),
    ) -> None:
        prepare(model)
        _check(context, training, config)
        self.embedding = CPTEmbedding(config, model.get_input_embeddings(), settings.epsilon_unit)
        self._model = model
        self._context = context.tokens
        self._training = list(training)
        self._settings = settings
        self._chunk_tokens = chunk_tokens
        self._memory = free_memory(model.device) // 2 if memory is None else memory
        self._recorded_tokens = recorded_tokens(model) if recorded is None else recorded
        self._recordings = Recordings(_RECORDINGS, apart=True)
        self._whole: tuple[tuple[int, ...], WholeStep] | None = None
        self._labels = context_labels(context.tokens, config, held_out)
        self._delta = self.embedding.delta_embedding.weight
        self._optimizer = torch.optim.AdamW([self._delta], lr=settings.learning_rate)
        self._step = 0

    @property
    def steps_done(self) -> int:
        """Completed updates."""
        return self._step

    @property
    def learning_rate(self) -> float:
        """Learning rate of the last step."""
        return self._settings.rate(max(0, self._step - 1))

    def step(self, turn: Turn = ALONE) -> float:
        """Do one update and return the loss before it.

        The turn is offered between chunks. If the offer raises, the tuner stays as it was after the last completed
        step.
        """
        numbers = batch_order(len(self._training), self._settings.batch_size, self._settings.seed, self._step)
        loss, gradient = self._loss_and_gradient(numbers, turn)
        self._delta.grad = gradient
        self._optimizer.param_groups[0]["lr"] = self._settings.rate(self._step)
        self._optimizer.step()
        self.embedding.project_()
        self._step += 1
        return loss

    def state(self) -> dict[str, Tensor]:
        """What `load_state` needs to go on as if unbroken: delta and AdamW moments [T, H], completed steps."""
        moments = self._optimizer.state.get(self._delta)
        zeros = torch.zeros_like(self._delta)
        return {
            "delta": self._delta.detach().clone(),
            "exp_avg": (moments["exp_avg"] if moments else zeros).clone(),
            "exp_avg_sq": (moments["exp_avg_sq"] if moments else zeros).clone(),
            "step": torch.tensor(self._step),
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from a `state`; raises ValueError if it is not one of this context's."""
        names = ("delta", "exp_avg", "exp_avg_sq")
        if set(state) != {*names, "step"} or any(state[name].shape != self._delta.shape for name in names):
            raise ValueError("The state does not belong to this context.")
        delta, average, squares = (state[name].to(self._delta, copy=True) for name in names)
        self._step = int(state["step"])
        with torch.no_grad():
            self._delta.copy_(delta)
        step = torch.tensor(float(self._step))
        self._optimizer.state[self._delta] = {"step": step, "exp_avg": average, "exp_avg_sq": squares}

    def _loss_and_gradient(self, numbers: list[int], turn: Turn) -> tuple[float, Tensor]:
        """The mean over the batch's label tokens, each row of it counting the context's, and its delta gradient."""
        batch = [self._training[number] for number in numbers]
        embeds = self.embedding(torch.arange(len(self._context), device=self._model.device))  # [T, H]
        if len(self._context) + sum(map(len, batch)) <= self._chunk_tokens:
            loss, gradient = self._in_one_pass(tuple(numbers), embeds.detach(), turn)
        else:
            of_context, of_example = scales(self._labels, batch)
            shared = SharedContext(
                self._model,
                embeds,
                self._labels,
                context_scale=of_context,
                example_scale=of_example,
                segment_tokens=self._chunk_tokens,
                memory=self._memory,
            )
            loss, gradient = loss_and_gradient(shared, self._parts(batch), turn)
        (delta_gradient,) = torch.autograd.grad(embeds, self._delta, gradient)
        return loss, delta_gradient

    def _in_one_pass(self, numbers: tuple[int, ...], embeds: Tensor, turn: Turn) -> tuple[float, Tensor]:
        if self._whole is None or self._whole[0] != numbers:
            chunk = Chunk(tuple(self._training[number] for number in numbers))
            self._whole = numbers, WholeStep(self._model, len(self._context), self._labels, chunk)
        whole, settings = self._whole[1], self._settings
        hidden = whole.chunk.hidden(self._context, settings.leave_one_out, self._dropped())
        inputs = (embeds,) if hidden is None else (embeds, *on_device((hidden,), embeds.device))
        if whole.tokens <= self._recorded_tokens:
            loss, gradient = self._recordings.run((numbers, len(inputs)), lambda: whole, inputs)
        else:
            loss, gradient = whole(*inputs, turn=turn)
        return loss.item(), gradient

    def _parts(self, batch: list[Tokens]) -> list[Callable[[], Examples]]:
        """The batch in chunks, each made ready when its turn comes."""
        settings, context, dropped = self._settings, self._context, self._dropped()
        return [
            partial(chunk.examples_after, self._model, context, settings.leave_one_out, dropped)
            for chunk in chunks(batch, self._chunk_tokens)
        ]

    def _dropped(self) -> Callable[[], Tensor]:
        settings = self._settings
        return dropout(len(self._context), settings.token_dropout, settings.seed, self._step)


def batch_order(examples: int, batch_size: int | None, seed: int, step: int) -> list[int]:
    """Numbers of the training examples of a step: a new order each epoch, a function of seed and step alone."""
    if batch_size is None or batch_size >= examples:
        return list(range(examples))
    epoch, place = divmod(step, math.ceil(examples / batch_size))
    order = torch.randperm(examples, generator=_generator(seed, epoch, stream=0)).tolist()
    return order[place * batch_size : (place + 1) * batch_size]


def dropout(tokens: int, rate: float, seed: int, step: int) -> Callable[[], Tensor]:
    """Draws, example by example, of the context tokens [T] bool hidden in a step: a function of seed and step alone."""
    generator = _generator(seed, step, stream=1)
    return lambda: torch.rand(tokens, generator=generator) < rate


def _generator(seed: int, count: int, stream: int) -> torch.Generator:
    """Random numbers that are a function of seed and count alone; seeds are spread so that neighbours share none."""
    return torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + 2 * count + stream) % 2**63)


def _check(context: Context, training: Sequence[Tokens], config: CPTConfig) -> None:
    if config.token_ids != list(context.tokens.ids) or config.token_types != context.tokens.reference_types():
        raise ValueError("The config is not that of the context.")
    if not training:
        raise ValueError("There is nothing to train on.")
    for tokens in training:
        training_labels(tokens)
        if tokens.context_index is not None:
            context.tokens.span(tokens.context_index)
