"""How much work goes into one piece: chunks of tuning, passes of scoring, logits held at once.

On a CPU the sizes are those that suit its caches. On a GPU they are what its memory holds beside the weights, so that
few launches do the work. They follow from model and device alone, not from what is free at the moment: the same job on
the same kind of machine is computed in the same pieces, to the same bits.
"""

from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary

import torch

#: Of a GPU's memory beside the weights, the parts that the activations of a chunk or pass and its logits may take, as
#: divisors. Graphs of the context, resident contexts and others need the rest.
_ACTIVATIONS: Final = 4
_LOGITS: Final = 16
#: Activations of a layer that are held for each token, in multiples of the widths of its two halves; the first is that
#: of the hidden states or of all heads together, whichever is larger.
_HIDDEN_COPIES: Final = 8
_INNER_COPIES: Final = 3
_LEAST_TOKENS: Final = 512
_MOST_TOKENS: Final = 16384
_LEAST_LOGITS: Final = 2**23
#: Operations of a step of tuning that a GPU does in about the time in which a host launches its kernels one by one:
#: some thousand launches of 10 µs at 400 TFLOP/s. Above, a recording would hold much memory and save little.
_LAUNCH_BOUND_FLOP: Final = 2e13
#: Operations of a token with each parameter: one product forward, one back.
_FLOP_OF_PARAMETER: Final = 4
#: Bytes of a logit: in the model's dtype, in float32, and once more while its exponential is summed.
_LOGIT_BYTES: Final = 12


@dataclass(frozen=True)
class Sizes:
    """chunk_tokens: of a chunk of tuning, forward and back. pass_tokens, pass_logits: of a pass of scoring."""

    chunk_tokens: int
    pass_tokens: int
    pass_logits: int

    @classmethod
    def of(cls, model: Any) -> "Sizes":
        """Sizes for a loaded model on its device; found out once for each model."""
        if model.device.type != "cuda":
            return ON_CPU
        if model not in _found:
            total = torch.cuda.get_device_properties(model.device).total_memory
            weights = sum(weight.nbytes for weight in model.parameters())
            _found[model] = cls.within(total - weights, model.config, model.dtype)
        return _found[model]

    @classmethod
    def within(cls, memory: int, config: Any, dtype: torch.dtype) -> "Sizes":
        """Sizes for `memory` bytes beside the weights: powers of two, so that small differences change nothing."""
        memory = max(memory, 0)
        fitting = _power_of_two(memory // _ACTIVATIONS // token_bytes(config, dtype))
        tokens = min(max(fitting, _LEAST_TOKENS), _MOST_TOKENS)
        return cls(tokens, tokens, max(_power_of_two(memory // _LOGITS // _LOGIT_BYTES), _LEAST_LOGITS))


def recorded_tokens(model: Any) -> int:
    """Tokens up to which a step of tuning is bound by launches on the model's device; none where nothing is."""
    if model.device.type != "cuda":
        return 0
    return launch_bound_tokens(sum(weight.numel() for weight in model.parameters()))


def launch_bound_tokens(parameters: int) -> int:
    """The same for so many parameters on a GPU."""
    return int(_LAUNCH_BOUND_FLOP / (_FLOP_OF_PARAMETER * parameters))


def token_bytes(config: Any, dtype: torch.dtype) -> int:
    """Bytes of a token's activations that a graph keeps, in all layers; rather too many than too few."""
    text = config.get_text_config()
    heads = text.num_attention_heads * (getattr(text, "head_dim", None) or 0)
    width = _HIDDEN_COPIES * max(text.hidden_size, heads) + _INNER_COPIES * inner_size(text)
    return int(text.num_hidden_layers * width * dtype.itemsize)


def inner_size(text: Any) -> int:
    """Width of the second half of a layer."""
    return int(getattr(text, "intermediate_size", None) or 4 * text.hidden_size)


_found: Final[WeakKeyDictionary[Any, Sizes]] = WeakKeyDictionary()

#: Chunks large enough for the full rate in matrix products, small enough for caches and frequent beats. Logits of 32
#: MiB: up to there C libraries use memory again, and first touching fresh pages takes as long as half the product.
ON_CPU: Final = Sizes(chunk_tokens=512, pass_tokens=1024, pass_logits=2**23)


def _power_of_two(number: int) -> int:
    """The largest that is not above `number`; 0 for none."""
    return 1 << (number.bit_length() - 1) if number > 0 else 0
