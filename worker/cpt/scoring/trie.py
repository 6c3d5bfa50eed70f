"""The labels as a trie: a beginning that several labels share is computed once per query."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
from torch import Tensor

#: Inner nodes of a trie, at most: each query is followed by all of them, and each sees all above it.
MAX_LABEL_TOKENS: Final = 1024


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

    @classmethod
    def empty(cls) -> "LabelTrie":
        """The trie of no label, for queries whose states alone are read."""
        return cls((), (), (), ())

    @cached_property
    def entries(self) -> Tensor:
        """[E, 3] what is read for the labels: node, token, and number of the label, for each token of each label."""
        found = [(node, token, label) for label, path in enumerate(self.paths) for node, token in path]
        return torch.tensor(found, dtype=torch.int64).view(-1, 3)

    @cached_property
    def tree(self) -> tuple[Tensor, Tensor]:
        """Depths [M] of the inner nodes, and [M, M] bool: whether inner node j is inner node i or above it."""
        above = torch.eye(len(self.tokens), dtype=torch.bool)
        for node, parent in enumerate(self.parents):
            if parent > 0:
                above[node] |= above[parent - 1]
        return torch.tensor(self.depths, dtype=torch.int64), above
