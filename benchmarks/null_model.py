"""A base model that costs next to nothing, so that what is left of a request's time is the service's own."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

NAME = "null"


def save_null_model(tokenizer: Any, folder: Path) -> None:
    """Write a random Llama of one narrow layer, with the vocabulary of `tokenizer`, to `folder`."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=2048,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def tokenizer() -> Any:
    """The tokenizer of the default base model."""
    spec = find_spec("contextune_smollm2")
    if spec is None or spec.origin is None:
        raise RuntimeError("contextune-smollm2 is not installed")
    folder = Path(spec.origin).parent
    return AutoTokenizer.from_pretrained(folder, gguf_file=next(folder.glob("*.gguf")).name)
