"""The L2 ball a token's delta may move in, and the step back into it (paper section 3.3)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from worker.cpt.encoding.template import TokenType
from worker.cpt.tuning.config import CPTConfig

# The reference's "zero": a radius that keeps the division defined.
_NO_RADIUS = 1e-10
# The reference's epsilons are meant for embeddings of this size, and scaled by the root for others.
_REFERENCE_WIDTH = 2048
#: A delta that uses this share of its epsilon is at the boundary.
AT_BOUNDARY = 0.999
# Rounding must not leave a projected row outside its ball: projecting again would change it by a bit.
_INSIDE = 1 - 5e-7


def kinds(types: Sequence[int]) -> Tensor:
    """[T] token types without their example: 0 to 4, from the reference's integers."""
    wire = torch.tensor(types, dtype=torch.long)
    return torch.where(wire > 0, (wire - 1) % 4 + 1, wire)


def trainable(types: Sequence[int]) -> Tensor:
    """[T] bool: tokens whose delta is learned; labels and separators keep theirs at zero."""
    kind = kinds(types)
    return (kind != TokenType.LABEL) & (kind != TokenType.SEPARATOR)


def reference_unit(width: int) -> float:
    """The radius that an epsilon of 1 stands for in the reference, for embeddings of size `width`."""
    return math.sqrt(width / _REFERENCE_WIDTH)


def epsilon(config: CPTConfig, unit: float) -> Tensor:
    """[T] float32 radius of each context token's ball, where an epsilon of 1 is the radius `unit`."""
    kind = kinds(config.token_types)
    radius = torch.full(kind.shape, _NO_RADIUS)
    radius[(kind == TokenType.INPUT_TEMPLATE) | (kind == TokenType.OUTPUT_TEMPLATE)] = (
        config.opt_projection_format_epsilon * unit
    )
    radius[kind == TokenType.INPUT] = config.opt_projection_epsilon * unit
    return radius.clamp_min(_NO_RADIUS)


def project(delta: Tensor, radius: Tensor) -> Tensor:
    """Scale each row of `delta` [T, H] back to its `radius` [T] where it is longer; other rows stay as they are."""
    norm = delta.norm(dim=1)
    scale = torch.where(norm > radius, radius * _INSIDE / norm, torch.ones_like(norm))
    return delta * scale[:, None]
