"""Attention on CPUs: the backend for them, see `worker.cpt.kernels.backend`.

torch's flash kernels compute small problems, and every problem where MKL is the fastest, since the kernels multiply by
MKL. Elsewhere large problems are matrix products with the softmax between them, in blocks of queries whose scores stay
in the cache.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from worker.cpt.kernels.backend import MASKED
from worker.cpt.kernels.linear import mkl_is_fastest, product

#: Scores of one set of keys from which on products beat the flash kernels, where MKL is not the fastest (measured).
_LARGE: Final = 2**18
#: Scores in a block, 2 MiB; and queries, if causal: the fewer, the more of the upper triangle is left out.
_BLOCK_SCORES: Final = 2**19
_CAUSAL_QUERIES: Final = 128

_flash_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def forward(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """See `Backend.forward`."""
    if not _by_flash(query, key):
        return product_forward(query, key, value, mask, causal, scale)
    wide = _expanded(key, query), _expanded(value, query)
    output, lse = _flash_forward(query, *wide, 0.0, causal, attn_mask=_flash_mask(mask, query, key), scale=scale)
    return output, lse


def backward(
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
    if not _by_flash(query, key):
        return product_backward(grad, query, key, value, result, mask, causal, scale)
    mask = _flash_mask(mask, query, key)
    wide = _expanded(key, query), _expanded(value, query)
    grads = _flash_backward(grad, query, *wide, *result, 0.0, causal, attn_mask=mask, scale=scale)
    return grads[0], grads[1].sum(1), grads[2].sum(1)


def _by_flash(query: Tensor, key: Tensor) -> bool:
    return mkl_is_fastest() or query.shape[1] * query.shape[2] * key.shape[1] < _LARGE


def _expanded(keys: Tensor, query: Tensor) -> Tensor:
    """[X, T, D] as [X, R, T, D] without a copy."""
    return keys[:, None].expand(-1, query.shape[1], -1, -1)


def _flash_mask(mask: Tensor | None, query: Tensor, key: Tensor) -> Tensor | None:
    return None if mask is None else mask[:, None].to(query.dtype).expand(*query.shape[:3], key.shape[1])


def product_forward(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """`forward` by matrix products."""
    key, value = key.contiguous(), value.contiguous()
    output = torch.empty_like(query, memory_format=torch.contiguous_format)
    lse = query.new_empty(query.shape[:3], dtype=_exact(query.dtype))
    for block in _blocks(query, key, causal):
        weights = block.scores(query * scale, key, mask)
        most = weights.amax(-1, keepdim=True)
        total = weights.sub_(most).exp_().sum(-1, keepdim=True)
        block.of(output).copy_(_product(weights.to(value.dtype), block.seen(value).transpose(1, 2)) / total)
        block.of(lse).copy_((most + total.log()).squeeze(-1))
    return output, lse


def product_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    result: tuple[Tensor, Tensor],
    mask: Tensor | None,
    causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """`backward` by matrix products."""
    output, lse = result
    key, value, query = key.contiguous(), value.contiguous(), query * scale
    inner = (grad * output).sum(-1, dtype=_exact(grad.dtype))  # [X, R, N]
    grad_query = torch.empty_like(query, memory_format=torch.contiguous_format)
    grad_key, grad_value = (torch.zeros_like(tensor.mT, dtype=_exact(tensor.dtype)) for tensor in (key, value))
    for block in _blocks(query, key, causal):
        asked, given = block.of(query), block.of(grad)
        weights = block.scores(query, key, mask).sub_(block.of(lse)[..., None]).exp_()
        through = _product(given, block.seen(value)).to(weights.dtype).sub_(block.of(inner)[..., None]).mul_(weights)
        weights, through = weights.to(grad.dtype), through.to(grad.dtype)
        block.of(grad_query).copy_(_product(through, block.seen(key).transpose(1, 2)) * scale)
        block.seen(grad_key, 2).add_(_over_queries(asked, through))
        block.seen(grad_value, 2).add_(_over_queries(given, weights))
    return grad_query, grad_key.mT.to(key.dtype), grad_value.mT.to(value.dtype)


@dataclass(frozen=True)
class _Block:
    """Queries that are computed together, all of them over the keys up to the last that one sees."""

    sets: slice
    queries: slice
    causal: bool

    def of(self, tensor: Tensor) -> Tensor:
        """[x, R, n, ...] of [X, R, N, ...]."""
        return tensor[self.sets, :, self.queries]

    def seen(self, tensor: Tensor, dim: int = 1) -> Tensor:
        """The keys of [X, ..., T, ...], which are the dimension `dim`."""
        return tensor[self.sets].narrow(dim, 0, self.queries.stop if self.causal else tensor.shape[dim])

    def scores(self, query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
        """[x, R, n, t] of scaled queries [X, R, N, D] over keys [X, T, D], in float32 at least."""
        asked = self.of(query)
        scores = _product(asked, self.seen(key)).to(_exact(asked.dtype))
        if self.causal:
            own = scores[..., self.queries.start :]
            own.masked_fill_(torch.ones(own.shape[-2:], dtype=torch.bool, device=own.device).triu(1), MASKED)
        elif mask is not None:
            scores += (mask if len(mask) == 1 else mask[self.sets])[:, None, self.queries]
        return scores


def _blocks(query: Tensor, key: Tensor, causal: bool) -> Iterator[_Block]:
    """One set of keys at a time and few queries."""
    sets, heads, queries = query.shape[:3]
    size = max(1, _BLOCK_SCORES // (heads * key.shape[1]))
    size = min(size, _CAUSAL_QUERIES) if causal else size
    for number in range(sets):
        for start in range(0, queries, size):
            yield _Block(slice(number, number + 1), slice(start, min(start + size, queries)), causal)


def _product(rows: Tensor, weight: Tensor) -> Tensor:
    """[x, R, n, m] of rows [x, R, n, k] by weights [x, m, k]."""
    flat = rows.flatten(1, 2)
    found = product(flat[0], weight[0])[None] if len(flat) == 1 else flat @ weight.transpose(1, 2)
    return found.unflatten(1, rows.shape[1:3])


def _over_queries(asked: Tensor, through: Tensor) -> Tensor:
    """[x, D, t]: the sum over queries of [x, R, n, D] by [x, R, n, t]."""
    return _product(asked.flatten(1, 2).transpose(1, 2).contiguous()[:, None], through.flatten(1, 2).mT)[:, 0]


def _exact(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
