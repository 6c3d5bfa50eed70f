r"""Floating-point operations that a step needs, whatever the code that does it.

A step runs the context, T tokens, and K training examples of l_k tokens, each over the context. With P weights in the
matrices of the layers, L layers and H query heads of size D:

    layers    = 2 P (T + sum l_k)                                  one multiplication and one addition a weight
    attention = 4 L H D (T^2 / 2 + sum (l_k T + l_k^2 / 2))        q·k and weights·v for every pair that is seen

are the forward pass. Backward goes through activations only, since no weight of the model is trained. A layer's matrix
then takes one product more, as many operations as forward. The two products of attention have activations on both
sides, so each takes two more, twice the operations of forward:

    step = 2 layers + 3 attention

Left out, so that the ideal time is on the strict side: the head at label positions, everything that is not a matrix
product, and what is computed again to save memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def step_flops(model: Any, context: int, examples: Sequence[int]) -> float:
    """Operations of one step over `context` tokens and training examples of these lengths."""
    layers, attention = _forward(model, context, examples)
    return 2 * layers + 3 * attention


def _forward(model: Any, context: int, examples: Sequence[int]) -> tuple[float, float]:
    config = model.config
    matrices = [weight for layer in model.model.layers for weight in layer.parameters() if weight.dim() == 2]
    layers = 2.0 * sum(weight.numel() for weight in matrices) * (context + sum(examples))
    pairs = context**2 / 2 + sum(length * context + length**2 / 2 for length in examples)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return layers, 4.0 * config.num_hidden_layers * config.num_attention_heads * size * pairs
