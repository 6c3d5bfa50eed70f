"""Which base models the library can handle exactly. Looks at configurations only, loads nothing."""

from typing import Any

from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

# These scale rotary frequencies with the length of the sequence, so cached keys would go stale.
_LENGTH_DEPENDENT_ROPE = {"dynamic", "longrope"}


def check_supported(config: Any) -> None:
    """Refuse a transformers model configuration whose attention the shared context cannot reproduce.

    Raises:
        ValueError: names the feature in the way.
    """
    name = type(config).__name__
    if getattr(config, "is_encoder_decoder", False):
        raise ValueError(f"{name}: encoder-decoder models are not supported.")
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ValueError(f"{name}: not a causal language model.")
    _check_cache(config, name)
    _check_attention(config, name)
    model = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    if config.model_type != "bloom" and not getattr(model, "_supports_attention_backend", False):
        raise ValueError(f"{name}: models without a replaceable attention function are not supported.")


def _check_cache(config: Any, name: str) -> None:
    if getattr(MODEL_FOR_CAUSAL_LM_MAPPING[type(config)], "_is_stateful", False):
        raise ValueError(f"{name}: models without a KV cache are not supported.")
    other = {kind for kind in getattr(config, "layer_types", None) or [] if kind != "full_attention"}
    if other:
        raise ValueError(f"{name}: {', '.join(sorted(other))} layers are not supported.")
    if getattr(config, "sliding_window", None) is not None and getattr(config, "use_sliding_window", True):
        raise ValueError(f"{name}: sliding window attention is not supported.")


def _check_attention(config: Any, name: str) -> None:
    rope = getattr(config, "rope_parameters", None) or {}
    if isinstance(rope, dict) and rope.get("rope_type") in _LENGTH_DEPENDENT_ROPE:
        raise ValueError(
            f"{name}: rotary embeddings that depend on the length ({rope['rope_type']}) are not supported."
        )
    if getattr(config, "attn_logit_softcapping", None) is not None:
        raise ValueError(f"{name}: soft-capped attention is not supported.")
