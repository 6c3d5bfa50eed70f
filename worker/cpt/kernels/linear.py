"""Products with frozen weights, by oneDNN on float32 CPUs other than Intel's.

torch itself takes MKL for float32. MKL was less than half as fast as oneDNN on the AMD processor where both were
measured, and a third as fast for few rows. On an Intel processor MKL was 5 to 45% faster. Results differ by rounding
only.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class FrozenLinear(nn.Linear):
    """A linear layer of a prepared model; differentiable by its input alone.

    weight: [N, K]. columns: the same with its columns in one piece, as the kernels read it fastest.
    """

    columns: Tensor

    @classmethod
    def convert(cls, layer: nn.Linear, shared: bool) -> None:
        """Make `layer` one, in place; a weight that is `shared` with an embedding keeps its rows for look-ups.

        Other devices than the CPU read rows as fast: there the layer stays what it is. MKL reads the many rows of a
        shared weight as fast: there no weight is held twice.
        """
        if layer.weight.device.type != "cpu":
            return
        columns = layer.weight.detach()
        if not (shared and mkl_is_fastest()):
            columns = columns.t().contiguous().t()
        if not shared:
            layer.weight.data = columns
        layer.register_buffer("columns", columns, persistent=False)
        layer.__class__ = cls

    def forward(self, rows: Tensor) -> Tensor:
        """[..., N] of rows [..., K]."""
        if not _is_ours(rows):
            return super().forward(rows)
        output: Tensor = _Product.apply(rows, self.columns, self.bias)
        return output


def product(rows: Tensor, weight: Tensor) -> Tensor:
    """rows [..., K] by weight [N, K] as a prepared model multiplies them; for measuring the machine's rate."""
    return _linear(rows, weight, None) if _is_ours(rows) else nn.functional.linear(rows, weight)


def _is_ours(rows: Tensor) -> bool:
    return rows.device.type == "cpu" and rows.dtype == torch.float32


@cache
def mkl_is_fastest() -> bool:
    """Whether torch's own products are as fast as any: those of MKL on Intel's processors, as far as Linux tells."""
    try:
        known = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return torch.backends.mkl.is_available() and "GenuineIntel" in known


@cache
def _onednn() -> Callable[..., Tensor] | None:
    """oneDNN's product, where torch was built with it: not on macOS with Apple's processors."""
    if not torch.backends.mkldnn.is_available():
        return None
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None)


def _linear(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    by_onednn = None if mkl_is_fastest() else _onednn()
    return by_onednn(rows, weight, bias, "none", [], "") if by_onednn else nn.functional.linear(rows, weight, bias)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.weight = weight  # the model's own, so nothing that a graph keeps
        return _linear(rows, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _linear(grads[0].contiguous(), ctx.weight.t(), None), None, None
