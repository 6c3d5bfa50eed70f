"""Trials: what a search tries one after the other, and what it remembers of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import torch
from torch import Tensor

from worker.cpt.encoding.context import Tokens

Status = Literal["done", "dropped"]
#: Examples that are read under a prompt, at most, however much time there is.
MOST_READ: Final = 1024


@dataclass(frozen=True)
class Trial:
    """One configuration, tried as a whole.

    steps: how far each prompt is tuned. context_examples: examples in each prompt, at most. examples: examples that
    are read under each prompt, at most. prompts: those that serve together, at most. scored_examples: of those that
    are read the first, for which all labels are scored, at most; None for all. With 0 heads alone predict.
    """

    steps: int
    context_examples: int
    examples: int
    prompts: int
    scored_examples: int | None = None

    def scored(self, heads: bool) -> int:
        """Examples that all labels are scored for, at most: all that are read where no heads could predict instead."""
        given = self.scored_examples
        return min(self.examples, given) if heads and given is not None else self.examples


@dataclass(frozen=True)
class Outcome:
    """What became of a trial: `examples` were read under each prompt; loss and accuracy are of held-out examples."""

    trial: Trial
    status: Status
    examples: int = 0
    nll: float | None = None
    accuracy: float | None = None


@dataclass(frozen=True)
class StepFigures:
    """A step of tuning of the prompt with this number: its loss, its learning rate, and of the prompt's learned tokens
    the share whose delta is at the boundary of its ball.
    """

    prompt: int
    loss: float
    learning_rate: float
    at_epsilon: float


@dataclass(frozen=True)
class HeldOutScores:
    """How well prompts alone, without heads or calibration, predict `examples` that they do not see."""

    examples: int
    accuracy: float
    nll: float


@dataclass(frozen=True)
class TunedPrompt:
    """embedding, delta: [T, H] of the prompt's tokens; epsilon: [T]."""

    tokens: Tokens
    embedding: Tensor
    delta: Tensor
    epsilon: Tensor

    @property
    def embeds(self) -> Tensor:
        """[T, H] the tuned embeddings."""
        return self.embedding + self.delta


@dataclass
class PromptRecord:
    """What has been done for one prompt of a trial: its delta [T, H], losses, and what was read under it.

    closed: whether nothing more is to be done. names: [V, L, H] states of what is known of the labels, as far as they
    were read. numbers: the examples that were read. scores: [s, L] of the first of them. states: [V, n, H].
    calibration: [C, L] label scores of texts without a label.
    """

    delta: Tensor
    closed: bool = False
    names: list[Tensor] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    scores: list[Tensor] = field(default_factory=list)
    states: list[Tensor] = field(default_factory=list)
    calibration: list[Tensor] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    @property
    def scored(self) -> int:
        """Examples whose labels were scored: the first of those that were read."""
        return sum(map(len, self.scores))

    def tensors(self, name: str) -> dict[str, Tensor]:
        """All of it, under names that begin with `name`."""
        found = {
            f"{name}.delta": self.delta,
            f"{name}.closed": torch.tensor(self.closed),
            f"{name}.losses": torch.tensor(self.losses, dtype=torch.float64),
        }
        if self.names:
            found[f"{name}.names"] = torch.cat(self.names, 1)
        if self.numbers:
            found[f"{name}.numbers"] = torch.tensor(self.numbers)
            found[f"{name}.states"] = torch.cat(self.states, 1)
        if self.scores:
            found[f"{name}.scores"] = torch.cat(self.scores)
        if self.calibration:
            found[f"{name}.calibration"] = torch.cat(self.calibration)
        return found

    def keep(self, count: int) -> None:
        """Forget what was read but for the first examples."""
        if self.numbers:
            self.numbers = self.numbers[:count]
            self.scores = [torch.cat(self.scores)[:count]] if self.scores else []
            self.states = [torch.cat(self.states, 1)[:, :count]]

    @classmethod
    def from_tensors(cls, name: str, stored: Mapping[str, Tensor]) -> "PromptRecord":
        """What `tensors` gave; raises KeyError where something is missing."""
        closed = bool(stored[f"{name}.closed"])
        record = cls(stored[f"{name}.delta"], closed, losses=stored[f"{name}.losses"].tolist())
        if f"{name}.names" in stored:
            record.names = [stored[f"{name}.names"]]
        if f"{name}.numbers" in stored:
            record.numbers = stored[f"{name}.numbers"].tolist()
            record.states = [stored[f"{name}.states"]]
        if f"{name}.scores" in stored:
            record.scores = [stored[f"{name}.scores"]]
        if f"{name}.calibration" in stored:
            record.calibration = [stored[f"{name}.calibration"]]
        return record


def read_order(unseen: Sequence[int], seen: Sequence[int]) -> list[int]:
    """Examples in the order in which they are read under a prompt: one that it does not see, then one that it does.

    Each beginning of the order is what is read where there is no time for more.
    """
    pairs = [(place, kind, number) for kind, some in enumerate((unseen, seen)) for place, number in enumerate(some)]
    return [number for _, _, number in sorted(pairs)]
