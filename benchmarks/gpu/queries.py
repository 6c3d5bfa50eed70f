"""Classifying: ours with and without states, plain transformers with a cached prefix, and PEFT."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any, Final

import torch

from benchmarks.gpu.shapes import labels_of, model_of, queries_of, task_of
from benchmarks.measurement import timed
from benchmarks.plain import PlainScorer
from benchmarks.reference import ReferenceScorer
from worker.cpt.model.base_model import word_embeddings
from worker.cpt.scoring.prefix import PrefixKV
from worker.cpt.scoring.scorer import read, score
from worker.cpt.scoring.trie import LabelTrie
from worker.cpt.scoring.views import VIEWS

_EXAMPLES: Final = 8
_ROUNDS: Final = 5
#: Queries that a peer is timed on: its time grows with them evenly from there on.
_PEER_QUERIES: Final = 32
_PEERS: Final = ("plain", "peft")


def queries(
    shape: str, dtype: torch.dtype, batches: Sequence[int], labels: Sequence[int], device: torch.device
) -> dict[str, Any]:
    """Seconds a query, by batch and number of labels, after a context of eight examples."""
    context, _ = task_of(_EXAMPLES)
    model, plain = model_of(shape, device, dtype), model_of(shape, device, dtype)
    prefix = PrefixKV.compute(model, word_embeddings(model, context.tokens.ids))
    figures: dict[str, Any] = {}
    for count in labels:
        label_ids = labels_of(count)
        scorers = (
            PlainScorer(plain, context.tokens.ids, label_ids),
            ReferenceScorer(plain, context.config(), label_ids),
        )
        peers: dict[str, Any] = dict(zip(_PEERS, scorers, strict=True))
        known: dict[int, dict[str, Any]] = {}
        for batch in batches:
            asked, sample = queries_of(batch), min(batch, _PEER_QUERIES)
            if sample not in known:
                known[sample] = _peers(model, prefix, label_ids, asked[:sample], peers)
            figures[f"{batch}x{count}"] = _contest(model, prefix, label_ids, asked, known[sample])
    return {"context_tokens": len(context), **figures}


def _contest(
    model: Any, prefix: PrefixKV, label_ids: list[list[int]], asked: list[list[int]], peers: dict[str, Any]
) -> dict[str, Any]:
    trie, figures = LabelTrie.build(label_ids), dict[str, Any]()
    for name, views in {"ours": (), "ours_with_states": VIEWS}.items():
        work = _reading(model, prefix, trie, asked, views)
        for _ in range(3):  # what comes again is recorded
            work()
        figures[name] = _seconds(work) / len(asked)
    return figures | peers | {f"faster_than_{name}": peers[name] / figures["ours"] for name in _PEERS}


def _peers(
    model: Any, prefix: PrefixKV, label_ids: list[list[int]], asked: list[list[int]], peers: dict[str, Any]
) -> dict[str, Any]:
    expected, figures = score(model, prefix, label_ids, asked), dict[str, Any]()
    for name, peer in peers.items():
        peer.choose_micro_batch(asked)
        figures[f"{name}_differs"] = float((peer.score(asked) - expected).abs().max())
        figures[name] = _seconds(lambda peer=peer: peer.score(asked)) / len(asked)  # type: ignore[misc]
    return figures


def _reading(model: Any, prefix: PrefixKV, trie: LabelTrie, asked: list[list[int]], views: Any) -> Callable[[], object]:
    return lambda: read(model, prefix, [trie] * len(asked), asked, views=views)


def _seconds(work: Callable[[], object]) -> float:
    return statistics.median(timed(work) for _ in range(_ROUNDS))
