from typing import Any

import pytest
from transformers import (
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    MptConfig,
    Qwen2Config,
    T5Config,
    ViTConfig,
)

from worker.cpt.model.support import check_supported


def test_tiny_models_are_supported(model: Any) -> None:
    check_supported(model.config)


@pytest.mark.parametrize("config", [GPT2Config(), MistralConfig(sliding_window=None), Qwen2Config()])
def test_models_with_plain_attention_are_supported(config: Any) -> None:
    check_supported(config)


@pytest.mark.parametrize(
    ("config", "feature"),
    [
        (MistralConfig(sliding_window=128), "sliding window"),
        (Qwen2Config(use_sliding_window=True, sliding_window=64, max_window_layers=1), "sliding"),
        (Gemma2Config(), "sliding"),
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
