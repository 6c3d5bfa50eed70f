"""Tiny random language models of each architecture."""

from collections.abc import Callable
from typing import Any

import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GemmaConfig,
    GemmaForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

VOCABULARY = 97


def _llama_like(config: Any, model: Any, **sizes: int) -> Any:
    shared = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    return model(config(vocab_size=VOCABULARY, num_key_value_heads=2, **(shared | sizes)))


def _gpt_neox() -> Any:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    return GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=VOCABULARY, **sizes))


def _opt() -> Any:
    sizes = {"hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 48, "num_hidden_layers": 3}
    return OPTForCausalLM(OPTConfig(vocab_size=VOCABULARY, num_attention_heads=4, **sizes))


def _bloom() -> Any:
    return BloomForCausalLM(BloomConfig(vocab_size=VOCABULARY, hidden_size=24, n_layer=3, n_head=3))


def _gemma() -> Any:
    return _llama_like(GemmaConfig, GemmaForCausalLM, head_dim=8)


def _mistral() -> Any:
    return _llama_like(MistralConfig, MistralForCausalLM, sliding_window=128)


MODELS: dict[str, Callable[[], Any]] = {
    "llama": lambda: _llama_like(LlamaConfig, LlamaForCausalLM),
    "qwen2": lambda: _llama_like(Qwen2Config, Qwen2ForCausalLM),
    "qwen3": lambda: _llama_like(Qwen3Config, Qwen3ForCausalLM, head_dim=16),
    "gpt_neox": _gpt_neox,
    "opt": _opt,
    "bloom": _bloom,
}
#: The oracle judges these too; for what does not depend on the architecture those above are enough.
MORE_MODELS: dict[str, Callable[[], Any]] = {"gemma": _gemma, "mistral": _mistral}


def tiny_model(architecture: str) -> Any:
    """Of one architecture, always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = (MODELS | MORE_MODELS)[architecture]().eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(3)  # Fresh matrices are so small that attention would hardly matter.
    return model
