"""How the rows of one forward pass lie end to end: no padding in the layers, padding only inside own-row attention.

Knows lengths, positions and masks; not what the tokens are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from worker.cpt.kernels.backend import MASKED

#: Tokens of a lane below which a pass is not split to fill all lanes (two queries of 23 tokens were slower apart).
_LEAST_TOKENS: Final = 64


@dataclass(frozen=True)
class Packing:
    """N tokens of B rows, end to end; every row follows the same context of `offset` tokens.

    positions: [N] place of each token in its sequence, counted from the start of the context.
    rows, longest: B and the padded row length L.
    slots: [N] place of each token in the padded rows [B * L]; None where all rows are of one length.
    own_mask: [B, L, L] added to scores inside a row; None for causal rows.
    context_mask: [1, N, offset] added to scores of context keys; None where every token sees the whole context.
    """

    offset: int
    positions: Tensor
    rows: int
    longest: int
    slots: Tensor | None = None
    own_mask: Tensor | None = None
    context_mask: Tensor | None = None

    @classmethod
    def causal(
        cls, lengths: Sequence[int], offset: int, device: torch.device, hidden: Tensor | None = None
    ) -> "Packing":
        """Plain rows: each token sees the context, but for what the mask `hidden` hides, and its row up to itself."""
        longest = max(lengths)
        places = [torch.arange(length) for length in lengths]
        slots = torch.cat([row * longest + place for row, place in enumerate(places)])
        return cls(
            offset=offset,
            positions=(torch.cat(places) + offset).to(device),
            rows=len(lengths),
            longest=longest,
            slots=slots.to(device) if min(lengths) < longest else None,
            context_mask=None if hidden is None else hidden[None].to(device),
        )

    def branching(self, trunks: Sequence[int], trees: Sequence[tuple[Tensor, Tensor]]) -> "Packing":
        """The same rows, where all tokens of row b after its first `trunks[b]` are nodes of its tree.

        A tree has `depths` [M], how many tokens after the trunk each node is, and `ancestors` [M, M] bool. A node sees
        the context, the trunk and itself and the nodes above it.
        """
        mask = torch.full((self.longest, self.longest), MASKED).triu(1).repeat(self.rows, 1, 1)
        positions, start = self.positions.cpu(), 0
        for row, (trunk, (depths, ancestors)) in enumerate(zip(trunks, trees, strict=True)):
            end = trunk + len(depths)
            mask[row, trunk:end, trunk:end] = torch.where(ancestors, 0.0, MASKED)
            positions[start + trunk : start + end] = self.offset + trunk - 1 + depths
            start += end
        device = self.positions.device
        return replace(self, positions=positions.to(device), own_mask=mask.to(device))


def hide(lengths: Sequence[int], hidden: Sequence[Tensor]) -> Tensor | None:
    """[N, offset] context mask that hides from each row what its entry of `hidden` [offset] bool marks.

    None if there is nothing to hide. A row that may see nothing of the context still sees itself.
    """
    if not any(bool(marks.any()) for marks in hidden):
        return None
    rows = torch.stack(tuple(hidden)).repeat_interleave(torch.tensor(lengths), dim=0)
    return torch.zeros(rows.shape).masked_fill(rows, MASKED)


def passes(
    lengths: Sequence[int], pass_tokens: int, *, most: float = math.inf, at_once: int = 1
) -> list[list[list[int]]]:
    """Numbers of the rows of each pass, `at_once` passes side by side: about `pass_tokens` tokens and `most` rows.

    Passes are of one size, so that those side by side end together; neighbours in length share one, so that padding
    inside row attention stays small. With `most` below 1, a row that is more than a pass may hold, fewer are side by
    side.
    """
    if most < 1:
        at_once, most = max(1, int(at_once * most)), 1
    costs = [length / pass_tokens + 1 / most for length in lengths]
    total = sum(costs)
    count = math.ceil(total)
    if sum(lengths) >= at_once * _LEAST_TOKENS:
        count = at_once * math.ceil(count / at_once)
    found: list[list[int]] = [[] for _ in range(count)]
    done = 0.0
    for number in sorted(range(len(lengths)), key=lambda number: lengths[number]):
        found[min(int(count * done / total), count - 1)].append(number)
        done += costs[number]
    filled = [numbers for numbers in found if numbers]
    return [filled[start : start + at_once] for start in range(0, len(filled), at_once)]
