"""Labelled texts of one task, and the tokens of any selection of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from worker.cpt.encoding.context import Context, Tokens, encode_example, encode_query
from worker.cpt.encoding.template import Template


@dataclass(frozen=True)
class Shots:
    """Texts and the numbers of their labels; the first `context` of them form the context, all are trained on.

    `label_ids` are the tokens that each label is scored by.
    """

    tokenizer: Any
    template: Template
    labels: tuple[str, ...]
    label_ids: tuple[tuple[int, ...], ...]
    texts: tuple[str, ...]
    truth: tuple[int, ...]
    context: int
    _encoded: tuple[Tokens, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        pairs = zip(self.texts, self.truth, strict=True)
        encoded = (encode_example(self.tokenizer, self.template, text, self.labels[label]) for text, label in pairs)
        object.__setattr__(self, "_encoded", tuple(encoded))

    def __len__(self) -> int:
        return len(self.texts)

    def context_of(self, kept: Sequence[int]) -> Context:
        """The context of the examples `kept`; raises ValueError if none of them is of the context."""
        pairs = [(self.texts[number], self.labels[self.truth[number]]) for number in kept if number < self.context]
        return Context.build(self.tokenizer, self.template, pairs)

    def training_of(self, kept: Sequence[int]) -> list[Tokens]:
        """The examples `kept` as they are trained on after their context, copies knowing their place in it."""
        copies = iter(range(len(kept)))
        return [
            replace(self._encoded[number], context_index=next(copies) if number < self.context else None)
            for number in kept
        ]

    def queries_of(self, numbers: Sequence[int]) -> list[list[int]]:
        """The ids of examples as queries, without their labels."""
        return [encode_query(self.tokenizer, self.template, self.texts[number]) for number in numbers]

    def tokens_per_step(self, kept: Sequence[int], batch_size: int | None) -> int:
        """Tokens that a step on the examples `kept` computes, on average: their context once and each of the batch."""
        trained = sum(len(self._encoded[number]) for number in kept)
        share = 1.0 if batch_size is None else min(1.0, batch_size / len(kept))
        return len(self.context_of(kept)) + round(trained * share)
