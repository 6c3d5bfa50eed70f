"""Memory that a model needs to tune and to serve a context, from its configuration alone."""

from dataclasses import dataclass
from typing import Any, Final

import torch

from worker.cpt.model.sizes import ON_CPU, Sizes, inner_size, token_bytes

#: Bytes of a logit while a pass is scored: see `Sizes`.
_LOGIT_BYTES: Final = 12
#: Keys and values of a context, and gradients of theirs in float32.
_GRADIENT_BYTES: Final = 4
#: What a layer holds of a token while it runs without a graph, in multiples of the widths of its two halves.
_HIDDEN_COPIES: Final = 5
_INNER_COPIES: Final = 3


@dataclass(frozen=True)
class Needs:
    """Bytes: of the weights, and with them to `tune` or `serve` a context in the smallest pieces of work.

    More memory makes chunks and passes larger, keeps graphs of the context and holds more contexts.
    """

    weights: int
    tune: int
    serve: int

    @classmethod
    def of(cls, config: Any, parameters: int, dtype: torch.dtype, context_tokens: int) -> "Needs":
        """What a model with this configuration and so many parameters needs for a context of so many tokens."""
        text, weights = config.get_text_config(), parameters * dtype.itemsize
        sizes = Sizes.within(0, config, dtype)
        numbers = context_tokens * _cached_numbers(text)  # of keys and values
        logits = ON_CPU.pass_logits * _LOGIT_BYTES
        layer = (_HIDDEN_COPIES * text.hidden_size + _INNER_COPIES * inner_size(text)) * dtype.itemsize
        states = text.hidden_size * (text.num_hidden_layers + 1) * dtype.itemsize
        of_queries = sizes.pass_tokens * (layer + states) + logits
        graph = sizes.chunk_tokens * token_bytes(config, dtype)
        return cls(
            weights=weights,
            tune=weights + numbers * (2 * dtype.itemsize + _GRADIENT_BYTES) + graph + logits,
            # Keys and values are computed in one pass over the context, then queries follow.
            serve=weights + numbers * dtype.itemsize + max(context_tokens * layer, of_queries),
        )


def _cached_numbers(text: Any) -> int:
    """Keys and values of a token in all layers."""
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return int(2 * text.num_hidden_layers * heads * size)
