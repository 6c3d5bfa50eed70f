"""The reference backend: attention as it is written down, all scores at once. For tests, and for unknown devices."""

import torch
from torch import Tensor

from worker.cpt.kernels.backend import MASKED


def forward(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """See `Backend.forward`."""
    scores = _scores(query, key, mask, causal, scale)
    lse = scores.logsumexp(-1)
    weights = (scores - lse[..., None]).exp()
    return (weights @ value[:, None].to(scores.dtype)).to(query.dtype), lse


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
    output, lse = result
    weights = (_scores(query, key, mask, causal, scale) - lse[..., None]).exp()  # [X, R, N, T]
    exact = weights.dtype
    given, asked = grad.to(exact), query.to(exact)
    inner = (given * output.to(exact)).sum(-1, keepdim=True)
    through = weights * (given @ value[:, None].to(exact).mT - inner) * scale
    grad_key, grad_value = (through.mT @ asked).sum(1), (weights.mT @ given).sum(1)
    grad_query = through @ key[:, None].to(exact)
    return grad_query.to(query.dtype), grad_key.to(key.dtype), grad_value.to(value.dtype)


def _scores(query: Tensor, key: Tensor, mask: Tensor | None, causal: bool, scale: float) -> Tensor:
    """[X, R, N, T] in float32 at least."""
    exact = torch.promote_types(query.dtype, torch.float32)
    scores = query.to(exact) @ key[:, None].to(exact).mT * scale
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        return scores.masked_fill(later, MASKED)
    return scores if mask is None else scores + mask[:, None]
