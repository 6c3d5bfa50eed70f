"""ALiBi, the position bias of BLOOM (arXiv 2108.12409): attention falls off with distance, by a slope for each head."""

import math

import torch
from torch import Tensor


def alibi_slopes(heads: int, device: torch.device) -> Tensor:
    """[heads] float32 slopes: 2^(-8 k / heads) where heads are a power of two.

    Otherwise those of the next lower power, and then every other one of the next higher.
    """
    lower = 2 ** math.floor(math.log2(heads))
    every = torch.arange(1, lower + 1, device=device, dtype=torch.float64) * 8 / lower
    other = (2 * torch.arange(heads - lower, device=device, dtype=torch.float64) + 1) * 4 / lower
    return torch.cat([every, other]).neg().exp2().float()
