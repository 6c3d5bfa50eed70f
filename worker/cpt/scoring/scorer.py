"""Exact log-probabilities of labels for queries over a shared prefix, in one pass per batch.

Labels are a trie: a beginning that several labels share is run once per query, and a label's last token is never run,
only read. A query's row is its tokens followed by the trie's inner nodes, which see the query and their ancestors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor

from worker.cpt.kernels.lanes import lanes, side_by_side
from worker.cpt.model import base_model
from worker.cpt.model.packing import Packing, hide, passes
from worker.cpt.scoring.prefix import PrefixKV
from worker.cpt.turn import ALONE, Turn

#: Tokens of a pass, unless a single query has more: bounds the attention inside rows.
PASS_TOKENS: Final = 1024
#: Logits of a pass, unless a single query has more: 32 MiB, up to which C libraries use memory again. First touching
#: fresh pages takes as long as half the product.
_PASS_LOGITS: Final = 2**23


@dataclass(frozen=True)
class LabelTrie:
    """Inner nodes of the labels' trie, parents first, and where each label's tokens are read.

    `paths[l]` lists (node, token) for each token of label l; node 0 is the end of the query, node i > 0 has the token
    `tokens[i - 1]`, the parent `parents[i - 1]` and is `depths[i - 1]` tokens after the query.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    depths: tuple[int, ...]
    paths: tuple[tuple[tuple[int, int], ...], ...]

    @classmethod
    def build(cls, label_ids: Sequence[Sequence[int]]) -> "LabelTrie":
        """The trie of labels; raises ValueError for none or an empty one."""
        if not label_ids or not all(label_ids):
            raise ValueError("Labels must have tokens.")
        nodes: dict[tuple[int, int], int] = {}  # parent and token to node
        paths = []
        for label in label_ids:
            path, node = [], 0
            for token in label[:-1]:
                path.append((node, token))
                node = nodes.setdefault((node, token), len(nodes) + 1)
            paths.append((*path, (node, label[-1])))
        depths = [0]
        for parent, _ in nodes:
            depths.append(depths[parent] + 1)
        return cls(
            tokens=tuple(token for _, token in nodes),
            parents=tuple(parent for parent, _ in nodes),
            depths=tuple(depths[1:]),
            paths=tuple(paths),
        )

    def ancestors(self) -> Tensor:
        """[M, M] bool: entry (i, j) tells whether inner node j is inner node i or above it."""
        above = torch.eye(len(self.tokens), dtype=torch.bool)
        for node, parent in enumerate(self.parents):
            if parent > 0:
                above[node] |= above[parent - 1]
        return above


def score(
    model: Any,
    prefix: PrefixKV,
    label_ids: Sequence[Sequence[int]],
    queries: Sequence[Sequence[int]],
    *,
    normalise: bool = False,
    hidden: Sequence[Tensor] | None = None,
    pass_tokens: int = PASS_TOKENS,
    turn: Turn = ALONE,
) -> Tensor:
    """Log-probability [Q, L] of all tokens of each label after prefix and query, float32 on the CPU.

    With `normalise` the sum is divided by the label's number of tokens. A query's scores do not depend on what else is
    scored with it. `hidden` marks, for each query, the tokens of the prefix [T] bool that it may not see. The turn is
    offered before each pass of the model, or several side by side.

    Raises:
        ValueError: an empty query or label.
    """
    if not all(queries):
        raise ValueError("Queries must have tokens.")
    trie = LabelTrie.build(label_ids)
    scores = torch.zeros(len(queries), len(label_ids))
    most = _PASS_LOGITS / (model.config.get_text_config().vocab_size * (1 + len(trie.tokens)))

    def pass_over(numbers: Sequence[int]) -> None:
        marks = None if hidden is None else [hidden[number] for number in numbers]
        scores[numbers] = _score_pass(model, prefix, trie, [queries[number] for number in numbers], marks)

    lengths = [len(query) + len(trie.tokens) for query in queries]
    for several in passes(lengths, pass_tokens, most=most, at_once=lanes(model.device)):
        turn.offer()
        side_by_side([partial(pass_over, numbers) for numbers in several])
    return scores / torch.tensor([len(label) for label in label_ids]) if normalise else scores


@torch.inference_mode()
def _score_pass(
    model: Any, prefix: PrefixKV, trie: LabelTrie, queries: list[Sequence[int]], hidden: Sequence[Tensor] | None
) -> Tensor:
    """[B, L] scores of the queries of one pass."""
    ids = [token for query in queries for token in (*query, *trie.tokens)]
    packing = _packing(prefix.tokens, trie, [len(query) for query in queries], model.device, hidden)
    places = _read_at(trie, [len(query) for query in queries]).to(model.device)
    embeds = base_model.word_embeddings(model, ids)
    logits, _ = base_model.run(model, embeds, packing, prefix.layers, places)
    logits = logits.float().unflatten(0, (len(queries), -1))  # [B, 1 + M, V]
    nodes = torch.tensor([node for path in trie.paths for node, _ in path], device=model.device)
    tokens = torch.tensor([token for path in trie.paths for _, token in path], device=model.device)
    found = logits[:, nodes, tokens]  # [B, label tokens]
    found -= _logsumexp_(logits)[:, nodes]
    owners = torch.tensor([label for label, path in enumerate(trie.paths) for _ in path], device=model.device)
    return found.new_zeros(len(queries), len(trie.paths)).index_add_(1, owners, found).cpu()


def _logsumexp_(logits: Tensor) -> Tensor:
    """[...] over the last dimension of logits [..., V], which are used up: a second copy of them would cost more."""
    most = logits.amax(-1, keepdim=True)
    return logits.sub_(most).exp_().sum(-1).log_() + most.squeeze(-1)


def _read_at(trie: LabelTrie, lengths: list[int]) -> Tensor:
    """[B * (1 + M)] packed places of each query's last token and of its inner nodes."""
    ends = torch.tensor([length + len(trie.tokens) for length in lengths]).cumsum(0)
    return (ends[:, None] - torch.arange(len(trie.tokens) + 1, 0, -1)).flatten()


def _packing(
    offset: int, trie: LabelTrie, lengths: list[int], device: torch.device, hidden: Sequence[Tensor] | None
) -> Packing:
    """Rows of queries, each followed by the trie's inner nodes."""
    nodes = len(trie.tokens)
    rows = [length + nodes for length in lengths]
    packing = Packing.causal(rows, offset, device, None if hidden is None else hide(rows, hidden))
    if not nodes:
        return packing
    return packing.branching(lengths, torch.tensor(trie.depths), trie.ancestors())
