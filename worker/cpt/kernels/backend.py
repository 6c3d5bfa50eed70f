"""What computes attention on a device: one softmax over one set of keys, with its log-sum-exp, forward and backward.

X sets of keys have R query heads each. A backend is a module or an object with the two functions of `Backend`; each is
imported when a device needs it.
"""

from importlib import import_module
from typing import Final, Protocol, cast

import torch
from torch import Tensor

#: Added to the score of a masked key. Finite, so that a part whose keys are all masked has weight zero, not NaN.
MASKED: Final = -1e30

#: Kinds of devices with kernels of their own, and the modules that have them.
_MODULES: Final = {"cpu": "worker.cpt.kernels.cpu", "cuda": "worker.cpt.kernels.cuda"}
_REFERENCE: Final = "worker.cpt.kernels.reference"


class Backend(Protocol):
    """Attention with a log-sum-exp on a kind of device."""

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, scale: float
    ) -> tuple[Tensor, Tensor]:
        """Output [X, R, N, D] and log-sum-exp [X, R, N] of queries [X, R, N, D] over keys and values [X, T, D].

        `mask` [X or 1, N, T] is added to the scores; `causal` needs N = T and no mask. The log-sum-exp is float32 at
        least.
        """

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
        """Gradients of query, key and value. `result` is output and log-sum-exp, of this part or a larger softmax."""


def backend_for(device: torch.device, dtype: torch.dtype) -> Backend:
    """The backend for tensors of a dtype on a device; the reference where there is none of its own."""
    own = device.type == "cpu" or dtype != torch.float64  # the fused kernels of CUDA have no float64
    return cast("Backend", import_module(_MODULES.get(device.type, _REFERENCE) if own else _REFERENCE))
