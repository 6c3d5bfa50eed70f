"""The reference, PEFT's CPT, used as its documentation shows, with the choices that make it fastest.

It computes the context once for every row. Logits are kept only where PEFT's own code allows it (classification).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import peft
import torch
from torch import Tensor

from benchmarks.measurement import fastest, timed
from benchmarks.plain import padded, score_nodes
from worker.cpt.encoding.context import Tokens
from worker.cpt.encoding.template import TokenType
from worker.cpt.model.memory import GraphMeter, free_memory
from worker.cpt.scoring.trie import LabelTrie
from worker.cpt.tuning.config import CPTConfig

_SIZES = (1, 2, 4, 8, 16, 32)
#: Copies of the logits that live beside the graph during PEFT's backward pass.
_LOGITS_COPIES = 4


def reference_model(model: Any, config: CPTConfig) -> Any:
    """A transformers model with PEFT's CPT for the context of `config`."""
    fields = ("cpt_token_ids", "cpt_mask", "cpt_tokens_type_mask", "opt_weighted_loss_type", "opt_loss_decay_factor")
    settings = peft.CPTConfig(task_type="CAUSAL_LM", **{field: getattr(config, field) for field in fields})
    return peft.get_peft_model(model, settings).eval()


class ReferenceTuning:
    """Steps of PEFT on `training`, with gradients accumulated over micro-batches of `micro_batch` rows."""

    def __init__(self, model: Any, config: CPTConfig, training: Sequence[Tokens], micro_batch: int = 1) -> None:
        self._model = reference_model(model, config)
        self._training = list(training)
        self._optimizer = torch.optim.AdamW([p for p in self._model.parameters() if p.requires_grad], lr=1e-3)
        self._context_labels = sum(kind > 0 and kind % 4 == 0 for kind in config.token_types)
        self._context_tokens = len(config.token_ids)
        self.micro_batch = micro_batch

    def choose_micro_batch(self, rows: int) -> int:
        """Take the micro-batch with the least time for a row, of those that divide the work and fit into memory."""
        needed = self._bytes_of_row()
        fitting = [size for size in _SIZES if size <= rows and size * needed < 0.8 * free_memory(self._model.device)]
        self.micro_batch = fastest(fitting or [1], self._seconds_per_row)
        return self.micro_batch

    def step(self, rows: int | None = None) -> float:
        """One update on the first `rows` training examples, all if not given; returns the loss before it."""
        batch = self._training[:rows]
        self._optimizer.zero_grad()
        label_tokens = sum(self._labels(tokens) for tokens in batch)
        total = 0.0
        for start in range(0, len(batch), self.micro_batch):
            part = batch[start : start + self.micro_batch]
            # PEFT's loss is a mean over the label tokens of the micro-batch.
            loss = self._loss(part) * (sum(self._labels(tokens) for tokens in part) / label_tokens)
            loss.backward()
            total += loss.item()
        self._optimizer.step()
        return total

    def _loss(self, batch: Sequence[Tokens]) -> Tensor:
        ids, mask = padded([tokens.ids for tokens in batch], self._model.device)
        types, _ = padded([tokens.reference_types() for tokens in batch], self._model.device)
        loss: Tensor = self._model(input_ids=ids, attention_mask=mask, labels=ids.clone(), input_type_mask=types).loss
        return loss

    def _labels(self, tokens: Tokens) -> int:
        return self._context_labels + tokens.types.count(TokenType.LABEL)

    def _seconds_per_row(self, size: int) -> float:
        batch = self._training[:size]
        return timed(lambda: self._loss(batch).backward()) / size

    def _bytes_of_row(self) -> int:
        meter = GraphMeter(self._model)
        with meter.metering():
            self._loss(self._training[:1])
        logits = 4 * self._model.config.vocab_size * (self._context_tokens + len(self._training[0]))
        return meter.nbytes + _LOGITS_COPIES * logits


class ReferenceScorer:
    """Log-probabilities of labels with PEFT's model, which recomputes the context for every query.

    Queries run as right-padded batches. The keys and values that PEFT's pass leaves are used for what follows a query
    in the labels, so that a query costs one pass over context and query, however many labels there are.
    """

    def __init__(self, model: Any, config: CPTConfig, label_ids: Sequence[Sequence[int]]) -> None:
        self._model = reference_model(model, config)
        self._context = len(config.token_ids)
        self._trie = LabelTrie.build(label_ids)
        self.micro_batch = 1

    def choose_micro_batch(self, queries: Sequence[Sequence[int]]) -> int:
        """Take the micro-batch with the least time for a query."""
        sizes = [size for size in _SIZES if size <= len(queries)]
        self.micro_batch = fastest(sizes, lambda size: timed(lambda: self._score(list(queries[:size]))) / size)
        return self.micro_batch

    def score(self, queries: Sequence[Sequence[int]]) -> Tensor:
        """[Q, L] log-probabilities of all tokens of each label."""
        order = sorted(range(len(queries)), key=lambda number: len(queries[number]))
        scores = torch.zeros(len(queries), len(self._trie.paths))
        for start in range(0, len(order), self.micro_batch):
            numbers = order[start : start + self.micro_batch]
            scores[numbers] = self._score([queries[number] for number in numbers]).float().cpu()
        return scores

    @torch.inference_mode()
    def _score(self, queries: list[Sequence[int]]) -> Tensor:
        ids, mask = padded(queries, self._model.device)
        ends = torch.tensor([self._context + len(query) - 1 for query in queries], device=ids.device)
        places, row_place = ends.unique(return_inverse=True)
        output = self._model(input_ids=ids, attention_mask=mask, use_cache=True, logits_to_keep=places)
        logits = output.logits[torch.arange(len(queries), device=ids.device), row_place][:, None]  # [B, 1, V]
        lengths = [len(query) for query in queries]
        return score_nodes(self._model.base_model, output.past_key_values, self._trie, self._context, lengths, logits)
