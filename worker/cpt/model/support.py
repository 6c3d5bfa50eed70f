"""Which base models the library can handle exactly, and up to which length. Looks at configurations, loads nothing."""

from typing import Any, Final

from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

# These scale rotary frequencies with the length of the sequence, so cached keys would go stale.
_LENGTH_DEPENDENT_ROPE: Final = {"dynamic", "longrope"}
#: Kinds of layers that see every token before, at least within the context length.
_EXACT_LAYERS: Final = {"full_attention", "sliding_attention"}
#: Tokens that BLOOM learned from, where its configuration does not tell: ALiBi itself has no limit.
_BLOOM_TOKENS: Final = 2048


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
    _check_weights(config, name)
    _check_cache(config, name)
    _check_attention(config.get_text_config(), name)
    model = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    if config.model_type != "bloom" and not getattr(model, "_supports_attention_backend", False):
        raise ValueError(f"{name}: models without a replaceable attention function are not supported.")
    context_length(config)


def context_length(config: Any) -> int:
    """Tokens that context and query may have together.

    Within the window of sliding attention every token sees all before it, so the window bounds the length.

    Raises:
        ValueError: the configuration names no length.
    """
    text = config.get_text_config()
    lengths = [getattr(text, name, None) for name in ("max_position_embeddings", "seq_length")]
    longest = next((length for length in lengths if length), _BLOOM_TOKENS if text.model_type == "bloom" else None)
    if longest is None:
        raise ValueError(f"{type(config).__name__}: the configuration names no maximum length.")
    return min(int(longest), _window(text) or int(longest))


def _window(config: Any) -> int | None:
    """Tokens that a token of some layer sees, itself included; None where it sees all."""
    window = getattr(config, "sliding_window", None)
    if window is None or not getattr(config, "use_sliding_window", True):
        return None
    layers = getattr(config, "layer_types", None)
    return None if layers is not None and "sliding_attention" not in layers else int(window)


def _check_weights(config: Any, name: str) -> None:
    quantisation = getattr(config, "quantization_config", None)
    if quantisation is None:
        return
    method = getattr(quantisation, "quant_method", None) or dict(quantisation).get("quant_method", "unknown")
    raise ValueError(
        f"{name}: quantised weights ({getattr(method, 'value', method)}) are not supported. "
        "Use the original weights with dtype bfloat16, or a GGUF file."
    )


def _check_cache(config: Any, name: str) -> None:
    if getattr(MODEL_FOR_CAUSAL_LM_MAPPING[type(config)], "_is_stateful", False):
        raise ValueError(f"{name}: models without a KV cache are not supported.")
    other = set(getattr(config.get_text_config(), "layer_types", None) or []) - _EXACT_LAYERS
    if other:
        raise ValueError(f"{name}: {', '.join(sorted(other))} layers are not supported.")


def _check_attention(config: Any, name: str) -> None:
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope, *rope.values()] if isinstance(rope, dict) else []  # some models have one for each kind of layer
    found = {kind["rope_type"] for kind in kinds if isinstance(kind, dict) and "rope_type" in kind}
    if found & _LENGTH_DEPENDENT_ROPE:
        raise ValueError(
            f"{name}: rotary embeddings that depend on the length ({', '.join(sorted(found))}) are not supported."
        )
    if getattr(config, "attn_logit_softcapping", None) is not None:
        raise ValueError(f"{name}: soft-capped attention is not supported.")
