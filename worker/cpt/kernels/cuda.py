"""Attention on CUDA: the backend for it, see `worker.cpt.kernels.backend`. No scores are ever held.

It is torch's memory-efficient kernel (from CUTLASS, as in xFormers), the one that takes a mask and returns the
log-sum-exp. Its rules: [B, M, H, K] with one key head for each query head; B at most 65,535, as a grid of blocks has no
more; K and all that lies between two elements a multiple of 8; a bias in the dtype of the queries whose rows lie a
multiple of 16 elements apart; a log-sum-exp for M rounded up to 32, infinite beyond M. The backward kernel reads the
output as if it lay in one piece. It adds up the gradients of queries over blocks of keys in any order: where there are
several, two runs agree to rounding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

_SIZE: Final = 8
_BIAS_ROW: Final = 16
_LSE_ROW: Final = 32
_MOST_SETS: Final = 65535
#: The kernel's kinds of masks.
_NO_CAUSAL: Final = 0
_CAUSAL: Final = 1


@dataclass(frozen=True)
class MemoryEfficient:
    """The backend over the kernel's two operators, or others that keep its rules."""

    attend: Callable[..., Any]
    attend_back: Callable[..., Any]

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, scale: float
    ) -> tuple[Tensor, Tensor]:
        """See `Backend.forward`."""
        if len(query) > _MOST_SETS:
            several = [
                self.forward(query[part], key[part], value[part], _of(mask, part), causal, scale)
                for part in _parts(len(query))
            ]
            output, lse = (torch.cat(found) for found in zip(*several, strict=True))
            return output, lse
        problem = _Problem(query, key, mask, causal)
        found = self.attend(
            problem.queries(query),
            problem.keys(key),
            problem.keys(value),
            problem.bias(mask, query.dtype),
            None,
            None,
            None,
            None,
            0.0,
            problem.kind,
            True,
            scale=scale,
        )
        return problem.unfolded(found[0]), problem.unfolded(found[1][..., : problem.rows].mT[..., None]).squeeze(-1)

    def backward(
        self,
        grad: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        result: tuple[Tensor, Tensor],
        mask: Tensor | None,
        causal: bool,
        scale: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `Backend.backward`."""
        if len(query) > _MOST_SETS:
            several = [
                self.backward(
                    grad[part],
                    query[part],
                    key[part],
                    value[part],
                    (result[0][part], result[1][part]),
                    _of(mask, part),
                    causal,
                    scale,
                )
                for part in _parts(len(query))
            ]
            grad_query, grad_key, grad_value = (torch.cat(found) for found in zip(*several, strict=True))
            return grad_query, grad_key, grad_value
        problem = _Problem(query, key, mask, causal)
        unused = torch.zeros((), dtype=torch.int64, device=query.device)  # the seed of a dropout that is off
        grads = self.attend_back(
            problem.queries(grad),
            problem.queries(query),
            problem.keys(key),
            problem.keys(value),
            problem.bias(mask, query.dtype),
            problem.queries(result[0]).contiguous(),
            None,
            None,
            problem.rows,
            key.shape[1],
            problem.lse(result[1]),
            0.0,
            unused,
            unused,
            problem.kind,
            False,
            scale=scale,
        )
        size = query.shape[-1]
        grad_key, grad_value = (found.sum(2)[..., :size] for found in grads[1:3])
        return problem.unfolded(grads[0]), grad_key, grad_value


class _Problem:
    """How one call lies in the kernel's layout.

    Without a mask all query heads of a set of keys are one head with R times the queries, so that keys are read once
    and their gradients need no sum. B = X; M = `rows`; H = `heads`.
    """

    def __init__(self, query: Tensor, key: Tensor, mask: Tensor | None, causal: bool) -> None:
        self._sets, self._query_heads, self._queries, self._size = query.shape
        self._keys = key.shape[1]
        folded = mask is None and not causal
        self.heads = 1 if folded else self._query_heads
        self.rows = self._query_heads * self._queries if folded else self._queries
        self.kind = _CAUSAL if causal else _NO_CAUSAL

    def queries(self, tensor: Tensor) -> Tensor:
        """[B, M, H, K] of [X, R, N, D]."""
        return _aligned(tensor.reshape(self._sets, self.heads, self.rows, self._size).transpose(1, 2))

    def keys(self, tensor: Tensor) -> Tensor:
        """[B, T, H, K] of [X, T, D], the same for every head without a copy."""
        return _aligned(tensor)[:, :, None].expand(-1, -1, self.heads, -1)

    def bias(self, mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        """[B, H, M, T] of [X or 1, N, T]."""
        if mask is None:
            return None
        aligned = _padded(mask.to(dtype), _BIAS_ROW)[:, None, :, : self._keys]
        return aligned.expand(self._sets, self.heads, self.rows, self._keys)

    def lse(self, tensor: Tensor) -> Tensor:
        """[B, H, M rounded up] of [X, R, N]."""
        laid = tensor.reshape(self._sets, self.heads, self.rows)
        return _padded(laid, _LSE_ROW, float("inf"))

    def unfolded(self, tensor: Tensor) -> Tensor:
        """[X, R, N, D] of [B, M, H, K]."""
        laid = tensor.transpose(1, 2).reshape(self._sets, self._query_heads, self._queries, tensor.shape[-1])
        return laid[..., : self._size]


def _aligned(tensor: Tensor) -> Tensor:
    """The tensor as the kernel reads it: itself where it lies well enough."""
    apart = (*tensor.stride()[:-1], tensor.shape[-1], tensor.storage_offset())
    lies_well = tensor.stride(-1) == 1 and all(elements % _SIZE == 0 for elements in apart)
    return tensor if lies_well else _padded(tensor, _SIZE)


def _parts(sets: int) -> list[slice]:
    """So many sets of keys as parts of few enough."""
    return [slice(start, start + _MOST_SETS) for start in range(0, sets, _MOST_SETS)]


def _of(mask: Tensor | None, part: slice) -> Tensor | None:
    """The mask of a part: one for all sets of keys, [1, N, T], is in each of them."""
    return mask if mask is None or len(mask) == 1 else mask[part]


def _padded(tensor: Tensor, multiple: int, value: float = 0.0) -> Tensor:
    """The last dimension rounded up, in one piece."""
    missing = -tensor.shape[-1] % multiple
    return functional.pad(tensor, (0, missing), value=value) if missing else tensor.contiguous()


_kernel: Final = MemoryEfficient(
    torch.ops.aten._efficient_attention_forward, torch.ops.aten._efficient_attention_backward
)
forward = _kernel.forward
backward = _kernel.backward
