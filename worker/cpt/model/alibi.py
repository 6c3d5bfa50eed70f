"""ALiBi, the position bias of BLOOM (arXiv 2108.12409): attention falls off with distance, by a slope for each head."""

import math

import torch
from torch import Tensor


def alibi_slopes(heads: int, device: torch.device) -> Tensor:
    """[heads] float32 slopes: 2^(-8 k / heads) where heads are a power of two.

    Otherwise those of the next lower power, and then every other one of the next higher.
    """
    lower = 2 ** math.floor(math.log2(heads))
    exponents = [8 * (head + 1) / lower for head in range(lower)]
    exponents += [4 * (2 * head + 1) / lower for head in range(heads - lower)]
    return torch.tensor([2.0**-exponent for exponent in exponents], device=device)
