"""Which tokens are predicted and what each counts: next-token cross-entropy on weighted label tokens."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from worker.cpt.encoding.context import Tokens
from worker.cpt.encoding.template import TokenType
from worker.cpt.tuning.config import CPTConfig


@dataclass(frozen=True)
class LabelTokens:
    """The n label tokens of some tokens: where their logits are read, their ids, and their weights."""

    read_at: tuple[int, ...]
    ids: tuple[int, ...]
    weights: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def between(self, start: int, stop: int) -> "LabelTokens":
        """Those read at places from `start` up to `stop`; places then count from `start`."""
        chosen = [i for i, place in enumerate(self.read_at) if start <= place < stop]
        return LabelTokens(
            tuple(self.read_at[i] - start for i in chosen),
            tuple(self.ids[i] for i in chosen),
            tuple(self.weights[i] for i in chosen),
        )

    def shifted(self, start: int) -> "LabelTokens":
        """The same tokens where their row begins at packed place `start`."""
        return LabelTokens(tuple(place + start for place in self.read_at), self.ids, self.weights)

    def __add__(self, other: "LabelTokens") -> "LabelTokens":
        return LabelTokens(self.read_at + other.read_at, self.ids + other.ids, self.weights + other.weights)


NO_LABEL_TOKENS = LabelTokens((), (), ())


def context_labels(tokens: Tokens, config: CPTConfig, held_out: Collection[int] = ()) -> LabelTokens:
    """Label tokens of a context: weight 1, or decay^1, decay^2, … by label from the last example backwards.

    Those of the examples `held_out` are not among them.
    """
    labelled = sorted({owner for _, owner in _labels(tokens)}, reverse=True)
    decay = config.opt_loss_decay_factor if config.opt_weighted_loss_type == "decay" else 1.0
    weight = {example: decay ** (distance + 1) for distance, example in enumerate(labelled)}
    # A label at the very start has nothing before it to be predicted from.
    predicted = [(place, owner) for place, owner in _labels(tokens) if place > 0 and owner not in held_out]
    return LabelTokens(
        tuple(place - 1 for place, _ in predicted),
        tuple(tokens.ids[place] for place, _ in predicted),
        tuple(weight[owner] for _, owner in predicted),
    )


def training_labels(tokens: Tokens) -> LabelTokens:
    """Label tokens of one training example, of weight 1.

    Raises:
        ValueError: not exactly one label, or nothing before it.
    """
    places = [place for place, _ in _labels(tokens)]
    if len({owner for _, owner in _labels(tokens)}) != 1 or places[0] == 0:
        raise ValueError("A training example must have one label and something before it.")
    ids = tuple(tokens.ids[place] for place in places)
    return LabelTokens(tuple(place - 1 for place in places), ids, (1.0,) * len(places))


def scales(context: LabelTokens, batch: Sequence[Tokens]) -> tuple[float, float]:
    """What multiplies the weighted loss of a label token of the context, and of a training example.

    The loss is their mean over a batch each of whose examples counts the context's.
    """
    label_tokens = len(batch) * len(context) + sum(len(training_labels(tokens)) for tokens in batch)
    return len(batch) / label_tokens, 1 / label_tokens


def weighted_cross_entropy(logits: Tensor, labels: LabelTokens) -> Tensor:
    """Sum over label tokens of weight times -log p; logits [n, V] belong to the tokens of `labels`, in order."""
    ids = torch.tensor(labels.ids, device=logits.device)
    weights = torch.tensor(labels.weights, device=logits.device)
    losses = functional.cross_entropy(logits.float(), ids, reduction="none")  # [n]
    return (losses * weights).sum()


def _labels(tokens: Tokens) -> list[tuple[int, int]]:
    """(place, example) of the label tokens."""
    pairs = enumerate(zip(tokens.types, tokens.examples, strict=True))
    return [(place, owner) for place, (kind, owner) in pairs if kind == TokenType.LABEL]
