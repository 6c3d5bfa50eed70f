"""A pass of queries padded to one length, for GPUs: made of token ids and lengths on the device, and recorded.

Few rows are bound by launches on a GPU, not by arithmetic: padding costs less than packing rows on the host, and a
shape that comes again is one launch. Rows are rounded up to powers of two and lengths to multiples of 16, so that
shapes do come again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor

from worker.cpt.kernels.backend import MASKED
from worker.cpt.kernels.copies import on_device, on_host
from worker.cpt.model import base_model
from worker.cpt.model.packing import Packing
from worker.cpt.scoring.prefix import PrefixKV
from worker.cpt.scoring.trie import LabelTrie
from worker.cpt.scoring.views import View

#: Tokens of a pass, padding included, up to which it is taken to be bound by launches.
_MOST_TOKENS: Final = 4096
_LENGTHS: Final = 16


@dataclass(frozen=True)
class Shape:
    """Rows and their padded length, tokens of query and inner nodes together."""

    rows: int
    length: int

    @classmethod
    def around(cls, lengths: Sequence[int]) -> "Shape":
        """What rows of these lengths are padded to: a shape that comes again, unless it is too large to matter."""
        length = -(-max(lengths) // _LENGTHS) * _LENGTHS
        rounded = cls(1 << (len(lengths) - 1).bit_length(), length)
        return rounded if rounded.recorded else cls(len(lengths), length)

    @property
    def recorded(self) -> bool:
        """Whether passes of this shape are recorded."""
        return self.rows * self.length <= _MOST_TOKENS


class Rectangle:
    """Scores and states of queries of one shape over a prefix, all with the same labels.

    It reads ids [B, L], each row a query and then padding, and lengths [B] of the queries; both on the model's device.
    """

    def __init__(self, model: Any, prefix: PrefixKV, trie: LabelTrie, views: Sequence[View], shape: Shape) -> None:
        self._model = model
        self._layers = prefix.layers  # not the prefix, which keeps the recording of this work
        self._offset = prefix.tokens
        self._views = views
        self._states = [view.layer(base_model.state_layers(model)) for view in views]
        self._shape = shape
        self._labels = len(trie.paths)
        device = model.device
        depths, ancestors = trie.tree
        self._tokens = torch.tensor(trie.tokens, dtype=torch.int64, device=device)
        self._depths, self._ancestors = depths.to(device), ancestors.to(device)
        self._entries = trie.entries.to(device)

    def __call__(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Scores [B, labels] and states [V, B, H], float32."""
        place = torch.arange(self._shape.length, device=ids.device).expand_as(ids)
        node = place - lengths[:, None]  # [B, L] number of the inner node, below 0 for the query's own tokens
        is_node = (node >= 0) & (node < len(self._tokens))
        ends = torch.arange(1 + len(self._tokens), device=ids.device) + lengths[:, None] - 1  # [B, 1 + M]
        rows = torch.arange(self._shape.rows, device=ids.device)[:, None] * self._shape.length
        place = torch.where(node < 0, place, 0)  # of padding: some models know no places beyond their context length
        if len(self._tokens):
            held = node.clamp(0, len(self._tokens) - 1)
            ids = torch.where(is_node, self._tokens[held], ids)
            place = torch.where(is_node, lengths[:, None] - 1 + self._depths[held], place)
        embeds = self._model.get_input_embeddings()(ids.flatten())
        packing = Packing(
            offset=self._offset,
            positions=(place + self._offset).flatten(),
            rows=self._shape.rows,
            longest=self._shape.length,
            own_mask=self._mask(node, is_node),
        )
        logits, states = self._run(embeds, packing, (rows + ends).flatten())
        return self._scores(logits.unflatten(0, (self._shape.rows, -1))), self._pooled(states, node < 0, lengths)

    def _mask(self, node: Tensor, is_node: Tensor) -> Tensor:
        """[B, L, L]: a query's token sees those up to itself, a node the query and its ancestors, padding itself."""
        length = self._shape.length
        seen = (node < 0)[:, None] & torch.ones(length, length, dtype=torch.bool, device=node.device).tril()
        if len(self._tokens):
            held = node.clamp(0, len(self._tokens) - 1)
            above = self._ancestors[held[:, :, None], held[:, None, :]]
            seen = seen | (above & is_node[:, :, None] & is_node[:, None, :])
        seen = seen | torch.eye(length, dtype=torch.bool, device=node.device)
        return torch.full(seen.shape, MASKED, device=node.device).masked_fill(seen, 0.0)

    def _run(self, embeds: Tensor, packing: Packing, places: Tensor) -> tuple[Tensor, list[Tensor]]:
        if self._views:
            return base_model.run_with_states(self._model, embeds, packing, self._layers, places, self._states)[:2]
        return base_model.run(self._model, embeds, packing, self._layers, places)[0], []

    def _scores(self, logits: Tensor) -> Tensor:
        """[B, labels] of logits [B, 1 + M, V]."""
        if not self._labels:
            return logits.new_zeros(self._shape.rows, 0, dtype=torch.float32)
        log_p = logits.float()
        nodes, tokens, labels = self._entries.T
        found = log_p[:, nodes, tokens] - log_p.logsumexp(-1)[:, nodes]
        return found.new_zeros(self._shape.rows, self._labels).index_add_(1, labels, found)

    def _pooled(self, states: Sequence[Tensor], own: Tensor, lengths: Tensor) -> Tensor:
        """[V, B, H] of the queries' own tokens, `own` [B, L]."""
        rows = torch.arange(self._shape.rows, device=own.device)
        found = []
        for view, state in zip(self._views, states, strict=True):
            whole = state.unflatten(0, tuple(own.shape))
            if view.at == "last":
                found.append(whole[rows, lengths - 1].float())
            else:
                found.append((whole.float() * own[..., None]).sum(1) / lengths[:, None])
        size = self._model.config.get_text_config().hidden_size
        return torch.stack(found) if found else lengths.new_zeros(0, len(own), size, dtype=torch.float32)


@torch.inference_mode()
def read_rectangle(
    model: Any, prefix: PrefixKV, trie: LabelTrie, queries: Sequence[Sequence[int]], views: Sequence[View]
) -> tuple[Tensor, Tensor]:
    """Scores [B, labels] and states [V, B, H] of queries over a prefix, float32 on the CPU."""
    shape = Shape.around([len(query) + len(trie.tokens) for query in queries])
    ids = torch.zeros(shape.rows, shape.length, dtype=torch.int64)
    for row, query in enumerate(queries):
        ids[row, : len(query)] = torch.tensor(query)
    lengths = torch.ones(shape.rows, dtype=torch.int64)
    lengths[: len(queries)] = torch.tensor([len(query) for query in queries])
    inputs = on_device((ids, lengths), model.device)
    make = partial(Rectangle, model, prefix, trie, views, shape)
    name = shape, tuple(views), trie
    scores, states = prefix.recordings.run(name, make, inputs) if shape.recorded else make()(*inputs)
    found = on_host((scores[: len(queries)], states[:, : len(queries)]))
    return found[0], found[1]
