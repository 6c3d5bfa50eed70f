"""Classification in this process: ours, the reference, plain transformers and, where it is installed, llama.cpp.

Every contender scores the same queries of mixed lengths after the same untuned context, exactly and for all labels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks import llama
from benchmarks.machine import describe
from benchmarks.measurement import interleaved, ratios, spread, timed
from benchmarks.plain import PlainScorer
from benchmarks.reference import ReferenceScorer
from benchmarks.results import Cell, Results
from benchmarks.settings import Settings
from benchmarks.subject import Subject, Task, gguf_file
from benchmarks.tuning import DifferentResultError
from worker.cpt.model.base_model import word_embeddings
from worker.cpt.scoring.prefix import PrefixKV
from worker.cpt.scoring.scorer import read, score
from worker.cpt.scoring.trie import LabelTrie

CONTEXT_EXAMPLES = 8
#: Log-probabilities further apart than this are not of the same computation. llama.cpp's weights are quantised.
_TOLERANCE = 5e-3

Queries = Sequence[Sequence[int]]


@dataclass
class _Peer:
    """A contender and how many of the queries it is timed on: first those it was tried on, `seconds` being its time."""

    score: Callable[[Queries], object]
    timed: int
    seconds: float
    detail: dict[str, Any]

    def choose_timed(self, queries: Queries, settings: Settings) -> None:
        """Take all queries, unless they would take too long."""
        if self.seconds / self.timed * len(queries) <= settings.patience:
            self.timed = len(queries)


def measure(subject: Subject, settings: Settings, results: Results) -> None:
    """All cells of classification."""
    task, plain_model = subject.task(CONTEXT_EXAMPLES), subject.plain_model()
    prefix = PrefixKV.compute(subject.base.model, word_embeddings(subject.base.model, task.context.tokens.ids))
    for labels in settings.labels:
        for batch in settings.batches:
            contest = partial(_contest, subject, settings, task, prefix, plain_model, labels, batch)
            results.cell(f"classification/{batch}x{labels}", contest)
    for batch in (batch for batch in settings.batches if batch <= settings.timed_queries):
        results.cell(f"labels/{batch}", partial(_labels, subject, settings, prefix, batch))
        results.cell(f"head/{batch}", partial(_head, subject, settings, prefix, batch))


def _contest(
    subject: Subject, settings: Settings, task: Task, prefix: PrefixKV, plain_model: Any, labels: int, batch: int
) -> Cell:
    queries, label_ids = subject.queries(batch), subject.label_ids(labels)
    expected = score(subject.base.model, prefix, label_ids, queries)  # [Q, L]
    peers = {"ours": _Peer(partial(score, subject.base.model, prefix, label_ids), batch, 0.0, {})}
    sample = queries[: settings.timed_queries]
    peers["plain"] = _plain(plain_model, task, label_ids, sample, expected)
    peers["peft"] = _reference(plain_model, task, label_ids, sample, expected)
    if llama.available():
        peers |= _llama(task, label_ids, sample, expected)
    for peer in peers.values():
        peer.choose_timed(queries, settings)
    contenders = {name: partial(peer.score, queries[: peer.timed]) for name, peer in peers.items()}
    seconds = interleaved(contenders, settings.rounds)
    per_query = {name: [one / peers[name].timed for one in seconds[name]] for name in peers}
    return {
        "batch": batch,
        "labels": labels,
        "context_tokens": len(task.context),
        "query_tokens": {"min": min(map(len, queries)), "max": max(map(len, queries))},
        "per_query": {name: spread(values) for name, values in per_query.items()},
        "speedup": {name: ratios(per_query[name], per_query["ours"]) for name in peers if name != "ours"},
        "timed_queries": {name: peer.timed for name, peer in peers.items()},
        "details": {name: peer.detail for name, peer in peers.items()},
    }


def _labels(subject: Subject, settings: Settings, prefix: PrefixKV, batch: int) -> Cell:
    """Ours with few labels and with many, taking turns."""
    queries = subject.queries(batch)
    contenders = {
        str(count): partial(score, subject.base.model, prefix, subject.label_ids(count), queries)
        for count in settings.labels
    }
    for work in contenders.values():
        work()
    seconds = interleaved(dict(contenders), settings.rounds)
    fewest = seconds[str(min(settings.labels))]
    return {
        "batch": batch,
        "per_query": {name: spread([one / batch for one in values]) for name, values in seconds.items()},
        "cost": {name: ratios(values, fewest) for name, values in seconds.items()},
    }


def _head(subject: Subject, settings: Settings, prefix: PrefixKV, batch: int) -> Cell:
    """Ours by label scores alone, and with all parts of a mixture, taking turns; few labels."""
    base, queries, texts = subject.base, subject.queries(batch), subject.query_texts(batch)
    labels = min(settings.labels)
    scores = partial(score, base.model, prefix, subject.label_ids(labels), queries)
    tries = [LabelTrie.build(subject.label_ids(labels))] * batch

    def with_head() -> None:
        read(base.model, prefix, tries, queries)
        for encoder in base.encoders[:1]:
            encoder.embed(texts)

    with_head()
    seconds = interleaved({"scores": scores, "with_head": with_head}, settings.rounds)
    return {
        "batch": batch,
        "labels": labels,
        "context_tokens": prefix.tokens,
        "per_query": {name: spread([one / batch for one in values]) for name, values in seconds.items()},
        "cost": ratios(seconds["with_head"], seconds["scores"]),
    }


def _plain(model: Any, task: Task, label_ids: list[list[int]], queries: Queries, expected: Tensor) -> _Peer:
    scorer = PlainScorer(model, task.context.tokens.ids, label_ids)
    scorer.choose_micro_batch(queries)
    seconds = timed(lambda: _check_same("transformers", scorer.score(queries), expected[: len(queries)]))
    return _Peer(scorer.score, len(queries), seconds, {"micro_batch": scorer.micro_batch})


def _reference(model: Any, task: Task, label_ids: list[list[int]], queries: Queries, expected: Tensor) -> _Peer:
    scorer = ReferenceScorer(model, task.config, label_ids)
    scorer.choose_micro_batch(queries)
    seconds = timed(lambda: _check_same("PEFT", scorer.score(queries), expected[: len(queries)]))
    return _Peer(scorer.score, len(queries), seconds, {"micro_batch": scorer.micro_batch})


def _llama(task: Task, label_ids: list[list[int]], queries: Queries, expected: Tensor) -> dict[str, _Peer]:
    peers = {}
    for name, together in (("llama_alone", 1), ("llama_packed", llama.MOST_TOGETHER)):
        scorer = llama.LlamaScorer(gguf_file(), task.context.tokens.ids, label_ids, together, describe()["cores"])
        started = time.perf_counter()
        found = torch.tensor(scorer.score(queries)).argmax(1)
        seconds = time.perf_counter() - started
        agreement = (found == expected[: len(queries)].argmax(1)).float().mean().item()
        peers[name] = _Peer(scorer.score, len(queries), seconds, {"same_prediction": agreement})
    return peers


def _check_same(name: str, found: Tensor, expected: Tensor) -> None:
    difference = (found - expected).abs().max().item()
    if difference > _TOLERANCE:
        raise DifferentResultError(f"log-probabilities of {name} differ by up to {difference}")
