"""Classification with plain transformers, as fast as it goes there: cached prefix, padded batches, labels as a trie.

The prefix's keys and values are computed once and expanded to the batch (transformers' cache copies them when it
appends). What follows a query in the labels runs in the same pass, under a mask [B, 1, L, T + L]; where no label has a
second token there is nothing to follow, and the pass is the query alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from benchmarks.measurement import timed
from worker.cpt.scoring.trie import LabelTrie

_SIZES = (1, 8, 16, 32, 64)


def padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows as [B, L], zero on the right, and the mask [B, L] of what is not padding."""
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids.to(device), mask.to(device)


class PlainScorer:
    """Log-probabilities of labels after `context` ids and a query, with a transformers model."""

    def __init__(self, model: Any, context: Sequence[int], label_ids: Sequence[Sequence[int]]) -> None:
        self._model = model
        self._trie = LabelTrie.build(label_ids)
        self._context = len(context)
        ids = torch.tensor([list(context)], device=model.device)
        with torch.inference_mode():
            cache = model(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values
        self._prefix = [(layer.keys, layer.values) for layer in cache.layers]  # [1, G, T, D] each
        self.micro_batch = 1

    def choose_micro_batch(self, queries: Sequence[Sequence[int]]) -> int:
        """Take the micro-batch with the least time for all queries."""

        def seconds(size: int) -> float:
            self.micro_batch = size
            self.score(queries[:size])
            return timed(lambda: self.score(queries))

        sizes = sorted({size for size in _SIZES if size < len(queries)} | {min(len(queries), _SIZES[-1])})
        self.micro_batch = min(sizes, key=seconds) if len(sizes) > 1 else sizes[0]
        return self.micro_batch

    def score(self, queries: Sequence[Sequence[int]]) -> Tensor:
        """[Q, L] log-probabilities of all tokens of each label; neighbours in length share a pass."""
        order = sorted(range(len(queries)), key=lambda number: len(queries[number]))
        scores = torch.zeros(len(queries), len(self._trie.paths))
        for start in range(0, len(order), self.micro_batch):
            numbers = order[start : start + self.micro_batch]
            scores[numbers] = self._score([queries[number] for number in numbers]).float().cpu()
        return scores

    @torch.inference_mode()
    def _score(self, queries: list[Sequence[int]]) -> Tensor:
        nodes, device, dtype = len(self._trie.tokens), self._model.device, self._model.dtype
        ids, _ = padded([[*query, *self._trie.tokens] for query in queries], device)
        lengths = [len(query) for query in queries]
        places = torch.tensor([[length - 1 + node for node in range(nodes + 1)] for length in lengths])  # [B, 1 + M]
        hidden = self._model.model(
            input_ids=ids,
            position_ids=_positions(ids.shape[1], self._context, lengths, self._trie).to(device),
            attention_mask=_mask(ids.shape[1], self._context, lengths, self._trie).to(device, dtype),
            past_key_values=self._cache(len(queries)),
            use_cache=True,
        ).last_hidden_state
        ends = hidden[torch.arange(len(queries), device=device)[:, None], places.to(device)]
        logits = self._model.lm_head(ends)  # [B, 1 + M, V]
        return read(self._trie, logits)

    def _cache(self, batch: int) -> DynamicCache:
        cache = DynamicCache(config=self._model.config)
        for layer, (keys, values) in zip(cache.layers, self._prefix, strict=True):
            layer.lazy_initialization(keys, values)
            layer.keys, layer.values = (part.expand(batch, -1, -1, -1) for part in (keys, values))
        return cache


def score_nodes(
    model: Any, cache: DynamicCache, trie: LabelTrie, context: int, lengths: Sequence[int], logits: Tensor
) -> Tensor:
    """[B, L] scores when `cache` holds context and right-padded queries and `logits` [B, 1, V] are those of their ends.

    The trie's inner nodes run in one pass after them.
    """
    nodes = len(trie.tokens)
    if nodes:
        batch, padding = len(lengths), max(lengths)
        mask = torch.zeros(batch, 1, nodes, context + padding + nodes)
        for row, length in enumerate(lengths):
            mask[row, :, :, context + length : context + padding] = float("-inf")
        mask[..., context + padding :] = torch.where(trie.tree[1], 0.0, float("-inf"))
        positions = context + torch.tensor(lengths)[:, None] - 1 + torch.tensor(trie.depths)
        device = logits.device
        following = model(
            input_ids=torch.tensor([trie.tokens], device=device).expand(batch, -1),
            attention_mask=mask.to(device, logits.dtype),
            position_ids=positions.to(device),
            past_key_values=cache,
        )
        logits = torch.cat([logits, following.logits], 1)
    return read(trie, logits)


def read(trie: LabelTrie, logits: Tensor) -> Tensor:
    """[B, L] scores of labels from the logits [B, 1 + M, V] at a query's end and the trie's inner nodes."""
    nodes, tokens, owners = trie.entries.to(logits.device).T
    found = logits[:, nodes, tokens] - logits.logsumexp(-1)[:, nodes]  # [B, label tokens]
    return found.new_zeros(len(logits), len(trie.paths)).index_add_(1, owners, found)


def _positions(width: int, context: int, lengths: Sequence[int], trie: LabelTrie) -> Tensor:
    positions = context + torch.arange(width).repeat(len(lengths), 1)
    for row, length in enumerate(lengths):
        positions[row, length : length + len(trie.depths)] = context + length - 1 + torch.tensor(trie.depths)
    return positions


def _mask(width: int, context: int, lengths: Sequence[int], trie: LabelTrie) -> Tensor:
    """[B, 1, L, T + L]: a query's token sees context and query up to itself, a node its ancestors in the trie too."""
    own = torch.full((width, width), float("-inf")).triu(1).repeat(len(lengths), 1, 1, 1)
    branches = torch.where(trie.tree[1], 0.0, float("-inf"))
    for row, length in enumerate(lengths):
        end = length + len(trie.tokens)
        own[row, 0, length:end, length:end] = branches
    return torch.cat([torch.zeros(len(lengths), 1, width, context), own], -1)
