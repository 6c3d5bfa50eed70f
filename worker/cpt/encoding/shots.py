"""Labelled texts of one task, and the tokens of any selection of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

from worker.cpt.encoding.context import Context, Tokens, encode_example, encode_queries, encode_query
from worker.cpt.encoding.template import Template, TokenType

#: What is known of a label is read up to here under a prompt (bytes), and no further than the longest example: so it
#: finds room where the examples do.
_NAME_BYTES: Final = 256
_FEWEST_BYTES: Final = 4
#: Of the longest texts so many are counted in tokens.
_COUNTED: Final = 32


@dataclass(frozen=True)
class Shots:
    """Texts and the numbers of their labels. The first `context` of them may stand in a context; all are trained on.

    `label_ids` are the tokens that each label is scored by, `label_texts` what else says what a label means.
    """

    tokenizer: Any
    template: Template
    labels: tuple[str, ...]
    label_ids: tuple[tuple[int, ...], ...]
    texts: tuple[str, ...]
    truth: tuple[int, ...]
    context: int
    label_texts: tuple[str, ...] = ()
    _encoded: dict[int, Tokens] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __len__(self) -> int:
        return len(self.texts)

    def example(self, number: int) -> Tokens:
        """The tokens of an example as it follows a context; tokenised once."""
        if number not in self._encoded:
            text, label = self.texts[number], self.labels[self.truth[number]]
            self._encoded[number] = encode_example(self.tokenizer, self.template, text, label)
        return self._encoded[number]

    def context_of(self, numbers: Sequence[int]) -> Context:
        """The context of these examples, in this order; raises ValueError for none."""
        pairs = [(self.texts[number], self.labels[self.truth[number]]) for number in numbers]
        return Context.build(self.tokenizer, self.template, pairs)

    def training_of(self, numbers: Sequence[int], context: Sequence[int]) -> list[Tokens]:
        """Examples as they are trained on after a context of the examples `context`, copies knowing their place."""
        places = {number: place for place, number in enumerate(context)}
        return [replace(self.example(number), context_index=places.get(number)) for number in numbers]

    def queries_of(self, numbers: Sequence[int]) -> list[list[int]]:
        """The ids of examples as queries, without their labels."""
        return encode_queries(self.tokenizer, self.template, [self.texts[number] for number in numbers])

    def cut_query(self, text: str) -> tuple[int, ...]:
        """The ids of a text as a query, cut to as many as the longest example's: so it finds room where that does.

        Never none: where the template adds nothing, a text is cut within its first letter if need be.
        """
        most = self._longest_query
        ids = encode_query(self.tokenizer, self.template, text)
        while len(ids) > most and text:
            text = text[: len(text) * most // len(ids)]
            ids = encode_query(self.tokenizer, self.template, text) or ids[:most]
        return tuple(ids)

    def longest_example(self, limit: int) -> int:
        """Tokens of the longest example, whatever label it is scored for, of those with the most bytes.

        All that may take half of `limit` tokens are counted: a token has a byte at least.
        """
        large = [*self._largest, *(self.example(n) for n, size in enumerate(self._sizes) if size >= limit // 2)]
        queries = [tokens.types.index(TokenType.LABEL) for tokens in large]
        return max(max(queries) + max(map(len, self.label_ids)), *map(len, large))

    def names_of(self, labels: Sequence[int]) -> list[list[int]]:
        """The ids of what is known of labels, in place of a text, as queries."""
        texts = [self.label_texts[label].encode()[: self._name_bytes].decode(errors="ignore") for label in labels]
        whole = zip(texts, encode_queries(self.tokenizer, self.template, texts), strict=True)
        return [ids if len(ids) <= self._longest_query else list(self.cut_query(text)) for text, ids in whole]

    @cached_property
    def _sizes(self) -> list[int]:
        """Bytes of each text."""
        return [len(text.encode()) for text in self.texts]

    @cached_property
    def _largest(self) -> list[Tokens]:
        """The examples with the most bytes."""
        by_size = sorted(range(len(self)), key=self._sizes.__getitem__, reverse=True)
        return [self.example(number) for number in by_size[:_COUNTED]]

    @cached_property
    def _longest_query(self) -> int:
        """Tokens of the longest of them up to its label."""
        return max(tokens.types.index(TokenType.LABEL) for tokens in self._largest)

    @cached_property
    def _name_bytes(self) -> int:
        return max(_FEWEST_BYTES, min(max(self._sizes), _NAME_BYTES))
