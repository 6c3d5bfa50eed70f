"""Exact attention of packed rows over a shared context: softmax(context keys | own keys), never expanded per row.

Each part is computed with a flash kernel; the parts are merged by their log-sum-exp. In the backward pass each part is
given the merged output and log-sum-exp, which yields the gradient of the whole softmax (as in ring attention,
arXiv 2310.01889). Head counts: H query heads share G key heads, R = H / G.
"""

from typing import Any

import torch
from torch import Tensor

from worker.cpt.kernel import kernel_backward, kernel_forward
from worker.cpt.packing import Packing

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
            shared = _shared(context_key, grouped), _shared(context_value, grouped)
            part = kernel_forward(grouped, *shared, packing.context_mask, False, scale)
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
        grouped = _grouped(query, groups)
        shared = _shared(context_key, grouped), _shared(context_value, grouped)
        merged = _grouped(output, groups), lse.unflatten(0, (groups, -1))
        part = kernel_backward(_grouped(grad, groups), grouped, *shared, merged, packing.context_mask, False, scale)
        grad_query = grad_query + part[0].flatten(0, 1)
        return grad_query, grad_key, grad_value, part[1].sum(1), part[2].sum(1), None, None


def _own_forward(query: Tensor, key: Tensor, value: Tensor, packing: Packing, scale: float) -> Part:
    """Attention inside the rows: output [H, N, D] and log-sum-exp [H, N]."""
    rows = _rows(query, key, value, packing)
    output, lse = kernel_forward(*rows, packing.own_mask, packing.own_mask is None, scale)
    if packing.slots is None:
        return output.flatten(0, 1), lse.flatten(0, 1)
    return _unpad(output, packing.slots), _unpad(lse[..., None], packing.slots).squeeze(-1)


def _own_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, output: Tensor, lse: Tensor, packing: Packing, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    groups = key.shape[0]
    rows = _rows(query, key, value, packing)
    if packing.slots is None:
        merged = _grouped(output, groups), lse.unflatten(0, (groups, -1))
        grads = kernel_backward(
            _grouped(grad, groups), *rows, merged, packing.own_mask, packing.own_mask is None, scale
        )
        return grads[0].flatten(0, 1), grads[1].sum(1), grads[2].sum(1)
    merged = _pad(output, packing.slots, packing), _pad(lse[..., None], packing.slots, packing).squeeze(-1)
    # Padding has grad zero, so it adds nothing to the gradients of the keys.
    grads = kernel_backward(
        _pad(grad, packing.slots, packing), *rows, merged, packing.own_mask, packing.own_mask is None, scale
    )
    own_query, own_key, own_value = (_unpad(part, packing.slots) for part in grads)
    return own_query, own_key.unflatten(0, (groups, -1)).sum(1), own_value.unflatten(0, (groups, -1)).sum(1)


def _rows(query: Tensor, key: Tensor, value: Tensor, packing: Packing) -> tuple[Tensor, Tensor, Tensor]:
    """What the kernel takes: [G, R, N, D] for a single row, else padded rows [B, H, L, D]."""
    if packing.slots is None:
        grouped = _grouped(query, key.shape[0])
        return grouped, _shared(key, grouped), _shared(value, grouped)
    repeats = query.shape[0] // key.shape[0]
    padded = _pad(query, packing.slots, packing), _pad(key, packing.slots, packing), _pad(value, packing.slots, packing)
    return padded[0], padded[1].repeat_interleave(repeats, 1), padded[2].repeat_interleave(repeats, 1)


def _grouped(tensor: Tensor, groups: int) -> Tensor:
    """[H, N, D] as [G, R, N, D], a view."""
    return tensor.unflatten(0, (groups, -1))


def _shared(tensor: Tensor, grouped: Tensor) -> Tensor:
    """[G, T, D] as [G, R, T, D] without a copy."""
    return tensor[:, None].expand(-1, grouped.shape[1], -1, -1)


def _pad(tensor: Tensor, slots: Tensor, packing: Packing) -> Tensor:
    """[H, N, D] to [B, H, L, D], zero where a row is shorter than L."""
    heads, _, size = tensor.shape
    padded = tensor.new_zeros(packing.rows * packing.longest, heads, size)
    padded.index_copy_(0, slots, tensor.transpose(0, 1))
    return padded.view(packing.rows, packing.longest, heads, size).transpose(1, 2)


def _unpad(tensor: Tensor, slots: Tensor) -> Tensor:
    """[B, H, L, D] to [H, N, D]."""
    return tensor.transpose(1, 2).flatten(0, 1).index_select(0, slots).transpose(0, 1)


def _merge(first: Part, second: Part) -> Part:
    """The softmax over two sets of keys from the softmax over each."""
    lse = torch.logaddexp(first[1], second[1])
    weights = [(part[1] - lse).exp()[..., None].to(part[0].dtype) for part in (first, second)]
    return first[0] * weights[0] + second[0] * weights[1], lse
