"""Exact attention of packed rows over a shared context: softmax(context keys | own keys), never expanded per row.

Each part is computed by itself; the parts are merged by their log-sum-exp. In the backward pass each part is
given the merged output and log-sum-exp, which yields the gradient of the whole softmax (as in ring attention,
arXiv 2310.01889). Head counts: H query heads share G key heads, R = H / G.
"""

from typing import Any

import torch
from torch import Tensor

from worker.cpt.kernels.backend import Backend, backend_for
from worker.cpt.model.packing import Packing

Part = tuple[Tensor, Tensor]  # (output, log-sum-exp)


def attend(
    query: Tensor, key: Tensor, value: Tensor, context: tuple[Tensor, Tensor] | None, packing: Packing, scale: float
) -> Tensor:
    """Attention output [H, N, D] of queries [H, N, D] over own keys and values [G, N, D] and those of the context.

    `context` holds keys and values [G, T, D] with T = packing.offset, or is None at the start of a sequence.
    """
    context_key, context_value = context if context else (None, None)
    output: Tensor = _Attend.apply(query, key, value, context_key, context_value, packing, scale)
    return output


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        context_key: Tensor | None,
        context_value: Tensor | None,
        packing: Packing,
        scale: float,
    ) -> Tensor:
        output, lse = _own_forward(query, key, value, packing, scale)
        if context_key is not None and context_value is not None:
            grouped = _grouped(query, key.shape[0])
            part = _backend(query).forward(grouped, context_key, context_value, packing.context_mask, False, scale)
            output, lse = _merge((output, lse), (part[0].flatten(0, 1), part[1].flatten(0, 1)))
        ctx.save_for_backward(query, key, value, context_key, context_value, output, lse)
        ctx.packing, ctx.scale = packing, scale
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, context_key, context_value, output, lse = ctx.saved_tensors
        grad, packing, scale = grads[0], ctx.packing, ctx.scale
        grad_query, grad_key, grad_value = _own_backward(grad, query, key, value, output, lse, packing, scale)
        if context_key is None:
            return grad_query, grad_key, grad_value, None, None, None, None
        groups = key.shape[0]
        merged = _grouped(output, groups), lse.unflatten(0, (groups, -1))
        part = _backend(query).backward(
            _grouped(grad, groups),
            _grouped(query, groups),
            context_key,
            context_value,
            merged,
            packing.context_mask,
            False,
            scale,
        )
        return grad_query + part[0].flatten(0, 1), grad_key, grad_value, part[1], part[2], None, None


def _backend(tensor: Tensor) -> Backend:
    return backend_for(tensor.device, tensor.dtype)


def _own_forward(query: Tensor, key: Tensor, value: Tensor, packing: Packing, scale: float) -> Part:
    """Attention inside the rows: output [H, N, D] and log-sum-exp [H, N]."""
    groups = key.shape[0]
    rows = _rows(query, groups, packing), _keys(key, packing), _keys(value, packing)
    output, lse = _backend(query).forward(*rows, _own_mask(packing, groups), packing.own_mask is None, scale)
    return _tokens(output, packing), _tokens(lse[..., None], packing).squeeze(-1)


def _own_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, output: Tensor, lse: Tensor, packing: Packing, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    groups = key.shape[0]
    rows = _rows(query, groups, packing), _keys(key, packing), _keys(value, packing)
    merged = _rows(output, groups, packing), _rows(lse[..., None], groups, packing).squeeze(-1)
    # Padding has grad zero, so it adds nothing to the gradients of the keys.
    grads = _backend(query).backward(
        _rows(grad, groups, packing), *rows, merged, _own_mask(packing, groups), packing.own_mask is None, scale
    )
    return _tokens(grads[0], packing), _tokens(grads[1][:, None], packing), _tokens(grads[2][:, None], packing)


def _own_mask(packing: Packing, groups: int) -> Tensor | None:
    """[B * G, L, L]."""
    return None if packing.own_mask is None else packing.own_mask.repeat_interleave(groups, 0)


def _grouped(tensor: Tensor, groups: int) -> Tensor:
    """[H, ...] as [G, R, ...], a view."""
    return tensor.unflatten(0, (groups, -1))


def _rows(tensor: Tensor, groups: int, packing: Packing) -> Tensor:
    """[H, N, D] to rows [B * G, R, L, D], zero where a row is shorter than L; a view for a single row."""
    heads, _, size = tensor.shape
    if packing.slots is None:
        rows = tensor.unflatten(1, (packing.rows, packing.longest)).transpose(0, 1)
    else:
        padded = tensor.new_zeros(packing.rows * packing.longest, heads, size)
        padded.index_copy_(0, packing.slots, tensor.transpose(0, 1))
        rows = padded.view(packing.rows, packing.longest, heads, size).transpose(1, 2)
    return rows.reshape(packing.rows * groups, -1, packing.longest, size)


def _keys(tensor: Tensor, packing: Packing) -> Tensor:
    """[G, N, D] to rows [B * G, L, D]."""
    return _rows(tensor, len(tensor), packing)[:, 0]


def _tokens(rows: Tensor, packing: Packing) -> Tensor:
    """[B * G, R, L, D] to [H, N, D]."""
    flat = rows.unflatten(0, (packing.rows, -1)).flatten(1, 2)  # [B, H, L, D]
    if packing.slots is None:
        return flat.transpose(0, 1).flatten(1, 2)
    return flat.transpose(1, 2).flatten(0, 1).index_select(0, packing.slots).transpose(0, 1)


def _merge(first: Part, second: Part) -> Part:
    """The softmax over two sets of keys from the softmax over each."""
    lse = torch.logaddexp(first[1], second[1])
    weights = [(part[1] - lse).exp()[..., None] for part in (first, second)]  # float32 at least, and so their products
    return (first[0] * weights[0] + second[0] * weights[1]).to(first[0].dtype), lse
