"""A twin on the CPU of CUDA's memory-efficient operators: keeps their rules to the letter and computes plainly."""

from typing import Any, Final

import torch
from torch import Tensor

from worker.cpt.kernels import reference
from worker.cpt.kernels.cuda import MemoryEfficient

_CAUSAL: Final = 1


def _check(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, kind: int) -> None:
    batch, rows, heads, size = query.shape
    assert key.shape == value.shape == (batch, key.shape[1], heads, size)
    assert batch < 2**16
    for tensor in (query, key, value):
        _check_lie(tensor)
    assert kind in {0, _CAUSAL}
    if bias is not None:
        assert kind == 0
        assert bias.dtype == query.dtype
        assert bias.shape == (batch, heads, rows, key.shape[1])
        assert bias.stride(-1) == 1
        assert all(stride % 16 == 0 for stride in bias.stride()[:-1])


def _check_lie(tensor: Tensor) -> None:
    assert tensor.stride(-1) == 1
    assert all(elements % 8 == 0 for elements in (*tensor.stride()[:-1], tensor.shape[-1], tensor.storage_offset()))


def _plain(tensor: Tensor) -> Tensor:
    """[B * H, 1, M, K] of [B, M, H, K]."""
    return tensor.transpose(1, 2).flatten(0, 1)[:, None]


def _laid(tensor: Tensor, heads: int) -> Tensor:
    return tensor.squeeze(1).unflatten(0, (-1, heads)).transpose(1, 2)


def _mask(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.flatten(0, 1)


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, *rest: Any, scale: float) -> list[Tensor]:
    assert rest[:5] == (None, None, None, None, 0.0)
    kind, with_lse = rest[5:]
    assert with_lse
    _check(query, key, value, bias, kind)
    heads, rows = query.shape[2], query.shape[1]
    keys = _plain(key)[:, 0], _plain(value)[:, 0]
    output, lse = reference.forward(_plain(query), *keys, _mask(bias), kind == _CAUSAL, scale)
    padded = torch.full((len(query), heads, -(-rows // 32) * 32), float("inf"))
    padded[..., :rows] = lse.view(len(query), heads, rows)
    return [_laid(output, heads), padded]


def attend_back(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    output: Tensor,
    *rest: Any,
    scale: float,
) -> list[Tensor]:
    assert rest[:2] == (None, None)
    rows, keys, lse, dropout, _, _, kind, bias_grad = rest[2:]
    assert (rows, keys, dropout, bias_grad) == (query.shape[1], key.shape[1], 0.0, False)
    _check(query, key, value, bias, kind)
    assert grad.shape == output.shape == query.shape
    _check_lie(grad)
    assert output.is_contiguous()
    assert lse.dtype == torch.float32
    assert lse.shape == (len(query), query.shape[2], -(-rows // 32) * 32)
    assert lse.is_contiguous()
    assert bool(lse[..., rows:].isinf().all())
    heads = query.shape[2]
    result = _plain(output), lse[..., :rows].flatten(0, 1)[:, None]
    plain_keys = _plain(key)[:, 0], _plain(value)[:, 0]
    grads = reference.backward(_plain(grad), _plain(query), *plain_keys, result, _mask(bias), kind == _CAUSAL, scale)
    return [_laid(found, heads) for found in grads]


TWIN: Final = MemoryEfficient(attend, attend_back)
