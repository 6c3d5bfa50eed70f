"""Passes over a shared context against transformers' own forward, for one model of each kind of attention."""

from typing import Any, Final

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from worker.cpt.model.trial import try_out

_SIZES: Final[dict[str, Any]] = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
_GATED: Final = {"intermediate_size": 48, "num_key_value_heads": 2}
_LATENT: Final = {
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
}
_EXPERTS: Final = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "n_group": 1,
    "topk_group": 1,
}

KINDS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "grouped query": ("llama", _GATED),
    "sliding window": ("mistral", _GATED | {"sliding_window": 8}),
    "scaled embeddings": ("gemma", _GATED | {"head_dim": 8}),
    "window in some layers": ("gemma2", _GATED | {"head_dim": 8, "attn_logit_softcapping": None}),
    "rotary base by layer": (
        "gemma3_text",
        _GATED | {"head_dim": 8, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "normed queries": ("qwen3", _GATED | {"head_dim": 16}),
    "partial rotary": ("phi", {"intermediate_size": 48}),
    "fused query, key and value": ("gpt_neox", {"intermediate_size": 48}),
    "learned positions": ("gpt2", {}),
    "embeddings narrower than the layers": ("opt", {"word_embed_proj_dim": 16, "ffn_dim": 48}),
    "ALiBi, heads no power of two": ("bloom", {"num_attention_heads": 5, "hidden_size": 40}),
    "values narrower than queries": ("deepseek_v3", _LATENT | _EXPERTS | {"num_key_value_heads": 4}),
    "experts": ("mixtral", _GATED | {"num_local_experts": 4}),
    "multipliers": (
        "granite",
        _GATED | {"embedding_multiplier": 12.0, "logits_scaling": 8.0, "attention_multiplier": 0.1},
    ),
}


def tiny_model(architecture: str, **sizes: Any) -> Any:
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **(_SIZES | ids | sizes))).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(3)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_passes_compute_what_the_model_computes(kind: str) -> None:
    architecture, sizes = KINDS[kind]
    try_out(tiny_model(architecture, **sizes))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_so_they_do_in_other_dtypes(dtype: torch.dtype) -> None:
    try_out(tiny_model("llama", **_GATED).to(dtype))


def test_attention_with_sinks_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="GptOssAttention: attention with s_aux is not supported"):
        try_out(tiny_model("gpt_oss", **_GATED, head_dim=8, num_local_experts=4))


def test_model_that_mixes_tokens_outside_of_attention_is_refused() -> None:
    model = tiny_model("llama", **_GATED)

    def smear(_: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output + inputs[0].cumsum(1)

    model.model.layers[0].mlp.register_forward_hook(smear)
    with pytest.raises(ValueError, match="after a shared context it would answer otherwise"):
        try_out(model)


def test_model_that_fails_on_packed_rows_is_refused_with_the_reason() -> None:
    model = tiny_model("llama", **_GATED)

    def fail(*_: Any) -> None:
        raise RuntimeError("rows of one batch only")

    model.model.layers[0].register_forward_pre_hook(fail)
    with pytest.raises(ValueError, match="rows of one batch only"):
        try_out(model)
