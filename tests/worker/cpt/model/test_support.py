from typing import Any

import pytest
from transformers import (
    BloomConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    Llama4TextConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    MptConfig,
    Qwen2Config,
    T5Config,
    ViTConfig,
)

from worker.cpt.model.support import check_supported, context_length


def test_tiny_models_are_supported(model: Any) -> None:
    check_supported(model.config)


@pytest.mark.parametrize("config", [GPT2Config(), MistralConfig(sliding_window=None), Qwen2Config()])
def test_models_with_plain_attention_are_supported(config: Any) -> None:
    check_supported(config)


@pytest.mark.parametrize(
    ("config", "length"),
    [
        (LlamaConfig(max_position_embeddings=512), 512),
        (GPT2Config(), 1024),
        (MistralConfig(max_position_embeddings=32768, sliding_window=4096), 4096),
        (MistralConfig(max_position_embeddings=1024, sliding_window=4096), 1024),
        (Qwen2Config(use_sliding_window=False, sliding_window=64, max_position_embeddings=256), 256),
        (Qwen2Config(use_sliding_window=True, sliding_window=64, max_window_layers=1), 64),
        (Gemma2Config(attn_logit_softcapping=None, sliding_window=128), 128),
        (Gemma3TextConfig(sliding_window=512), 512),
        (BloomConfig(seq_length=128), 128),
        (BloomConfig(), 2048),
    ],
)
def test_context_length_is_that_up_to_which_every_token_sees_all_before_it(config: Any, length: int) -> None:
    check_supported(config)
    assert context_length(config) == length


@pytest.mark.parametrize(
    ("config", "feature"),
    [
        (Gemma2Config(), "soft-capped"),
        (Llama4TextConfig(), "chunked_attention layers"),
        (LlamaConfig(quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True}), "bitsandbytes.*GGUF"),
        (LlamaConfig(max_position_embeddings=0), "no maximum length"),
        (T5Config(), "encoder-decoder"),
        (MambaConfig(), "KV cache"),
        (MptConfig(), "attention function"),
        (ViTConfig(), "not a causal language model"),
        (
            LlamaConfig(rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}),
            "depend on the length",
        ),
    ],
)
def test_unsupported_feature_is_named(config: Any, feature: str) -> None:
    with pytest.raises(ValueError, match=feature):
        check_supported(config)
