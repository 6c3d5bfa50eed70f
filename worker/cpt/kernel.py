"""One softmax attention over one set of keys, with its log-sum-exp, forward and backward.

On CPU these are torch's flash kernels; elsewhere plain matrix products, which run on every device.
"""

import torch
from torch import Tensor

# Added to the score of a masked key. Finite, so that a part whose keys are all masked has weight zero, not NaN.
MASKED = -1e30

_flash_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def kernel_forward(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """Output [X, Y, N, D] and log-sum-exp [X, Y, N] of queries [X, Y, N, D] over keys [X, Y, T, D].

    `mask` is added to the scores and broadcasts to [X, Y, N, T]; `causal` needs N = T and no mask.
    """
    if query.device.type != "cpu":
        return plain_forward(query, key, value, mask, causal, scale)
    output, lse = _flash_forward(query, key, value, 0.0, causal, attn_mask=_expanded(mask, query, key), scale=scale)
    return output, lse


def kernel_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    result: tuple[Tensor, Tensor],
    mask: Tensor | None,
    causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value. `result` is output and log-sum-exp, of this part or of a larger softmax."""
    if query.device.type != "cpu":
        return plain_backward(grad, query, key, value, result, mask, causal, scale)
    mask = _expanded(mask, query, key)
    grads = _flash_backward(grad, query, key, value, *result, 0.0, causal, attn_mask=mask, scale=scale)
    return grads[0], grads[1], grads[2]


def _expanded(mask: Tensor | None, query: Tensor, key: Tensor) -> Tensor | None:
    return None if mask is None else mask.to(query.dtype).expand(*query.shape[:3], key.shape[2])


def _scores(query: Tensor, key: Tensor, mask: Tensor | None, causal: bool, scale: float) -> Tensor:
    scores = (query @ key.transpose(-1, -2)).float() * scale  # [X, Y, N, T]
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        return scores.masked_fill(later, float("-inf"))
    return scores if mask is None else scores + mask


def plain_forward(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """`kernel_forward` by matrix products."""
    scores = _scores(query, key, mask, causal, scale)
    lse = scores.logsumexp(-1)
    return (scores - lse[..., None]).exp().to(value.dtype) @ value, lse


def plain_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    result: tuple[Tensor, Tensor],
    mask: Tensor | None,
    causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """`kernel_backward` by matrix products."""
    output, lse = result
    weights = (_scores(query, key, mask, causal, scale) - lse[..., None]).exp()  # [X, Y, N, T]
    through = (grad @ value.transpose(-1, -2)).float() - (grad * output).sum(-1, keepdim=True).float()
    grad_scores = (weights * through * scale).to(query.dtype)
    grad_value = weights.to(grad.dtype).transpose(-1, -2) @ grad
    return grad_scores @ key, grad_scores.transpose(-1, -2) @ query, grad_value
