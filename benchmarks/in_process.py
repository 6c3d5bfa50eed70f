"""The in-process scorer: what a worker does for a request, without the service around it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.measurement import timed
from benchmarks.subject import TEMPLATE
from worker.cpt.encoding.context import Context, encode_example, encode_labels, encode_query
from worker.cpt.model.base_model import word_embeddings
from worker.cpt.scoring.prefix import PrefixKV
from worker.cpt.scoring.scorer import score
from worker.cpt.tuning.tuner import Tuner, TuningSettings

Examples = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class InProcess:
    """Classifies with the plain context of some examples."""

    model: Any
    tokenizer: Any
    prefix: PrefixKV
    label_ids: list[list[int]]

    @classmethod
    def prepare(cls, model: Any, tokenizer: Any, examples: Examples) -> InProcess:
        """Compute the context's prefix; labels are those of the examples."""
        context = Context.build(tokenizer, TEMPLATE, examples)
        prefix = PrefixKV.compute(model, word_embeddings(model, context.tokens.ids))
        labels = list(dict.fromkeys(label for _, label in examples))
        return cls(model, tokenizer, prefix, encode_labels(tokenizer, TEMPLATE, labels))

    def classify(self, texts: Sequence[str]) -> list[list[float]]:
        """Probabilities [Q, L] of labels, from texts on."""
        queries = [encode_query(self.tokenizer, TEMPLATE, text) for text in texts]
        scores = score(self.model, self.prefix, self.label_ids, queries)
        found: list[list[float]] = scores.double().softmax(dim=1).tolist()
        return found

    def latencies(self, texts: Sequence[str], batch: int, seconds: float) -> list[float]:
        """Seconds of one batch after the other, for so long, one at least."""
        found: list[float] = []
        started = time.perf_counter()
        while not found or time.perf_counter() - started < seconds:
            start = len(found) * batch
            chosen = [texts[(start + i) % len(texts)] for i in range(batch)]
            found.append(timed(lambda chosen=chosen: self.classify(chosen)))  # type: ignore[misc]
        return found


class _FirstPieceError(Exception):
    """Ends a step after its first piece of work."""


class _FirstPiece:
    def offer(self, _: float | None = None, /) -> None:
        raise _FirstPieceError


def first_progress(model: Any, tokenizer: Any, examples: Examples) -> None:
    """From texts to the first progress within the first step of tuning."""
    context = Context.build(tokenizer, TEMPLATE, examples)
    copies = [encode_example(tokenizer, TEMPLATE, *example) for example in examples]
    training = [replace(tokens, context_index=number) for number, tokens in enumerate(copies)]
    tuner = Tuner(model, context, training, context.config(), TuningSettings())
    try:
        tuner.step(_FirstPiece())
    except _FirstPieceError:
        return
