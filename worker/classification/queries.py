"""Queries: texts as the tokens that follow a context, cut where they are too long and may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.contract.messages import Truncate
from worker.classification.resident import Resident
from worker.cpt.encoding.context import encode_queries, encode_query
from worker.cpt.encoding.template import Template
from worker.models import LanguageModel


@dataclass(frozen=True)
class Query:
    """A text with its tokens."""

    text: str
    ids: list[int]
    truncated: bool


@dataclass(frozen=True)
class TooLong:
    """A text that has more tokens than the context leaves room for."""

    tokens: int
    room: int

    def __str__(self) -> str:
        return f"has {self.tokens} tokens; the context leaves room for {self.room}"


def queries_of(
    base: LanguageModel, resident: Resident, texts: Sequence[str], truncate: Truncate
) -> list[Query | TooLong]:
    """The query of each text, cut to what the context leaves room for at the end that ``truncate`` names."""
    predictor, template = resident.predictor, resident.template
    room = base.context_length - predictor.tokens - max(len(ids) for ids in predictor.label_ids)
    encoded = zip(texts, encode_queries(base.tokenizer, template, texts), strict=True)
    return [_fit(base, template, text, ids, room, truncate) for text, ids in encoded]


def _fit(
    base: LanguageModel, template: Template, text: str, ids: list[int], room: int, truncate: Truncate
) -> Query | TooLong:
    if len(ids) <= room:
        return Query(text, ids, truncated=False)
    if truncate == "NONE":
        return TooLong(len(ids), room)
    while text and len(ids) > room:
        keep = len(text) * room // (len(ids) + 1)  # characters; at least one fewer in each round
        text = text[:keep] if truncate == "END" else text[len(text) - keep :]
        ids = encode_query(base.tokenizer, template, text)
    return Query(text, ids, truncated=True) if text.strip() else TooLong(len(ids), room)
