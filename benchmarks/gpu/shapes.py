"""Models of real shapes with random weights, and contexts of random tokens for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from worker.cpt.encoding.context import Context, Tokens
from worker.cpt.encoding.template import TokenType

_TEXT_TOKENS: Final = 24
_KINDS: Final = (
    [TokenType.SEPARATOR, TokenType.INPUT_TEMPLATE]
    + [TokenType.INPUT] * _TEXT_TOKENS
    + [TokenType.SEPARATOR, TokenType.OUTPUT_TEMPLATE, TokenType.LABEL, TokenType.LABEL]
)

SHAPES: Final[dict[str, dict[str, int]]] = {
    "tiny": {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4},
    "135m": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9},
    "8b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32},
}
SHAPES["bytes"] = SHAPES["tiny"]
_KEY_HEADS: Final = {"tiny": 2, "bytes": 2, "135m": 3, "8b": 8}
_VOCABULARY: Final = {"tiny": 97, "bytes": 4096, "135m": 49152, "8b": 128256}


def model_of(shape: str, device: torch.device, dtype: torch.dtype) -> Any:
    """A Llama of this shape, made on the device in its dtype; the same weights each time on the same kind of device."""
    config = LlamaConfig(
        vocab_size=_VOCABULARY[shape], num_key_value_heads=_KEY_HEADS[shape], tie_word_embeddings=True, **SHAPES[shape]
    )
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            return LlamaForCausalLM(config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(before)


def task_of(examples: int) -> tuple[Context, list[Tokens]]:
    """A context of so many examples, and the same examples to train on."""
    generator = torch.Generator().manual_seed(0)
    rows = [
        Tokens(
            tuple(_ids(len(_KINDS), generator)),
            tuple(_KINDS),
            (-1,) + (0,) * (len(_KINDS) - 1),
        )
        for _ in range(examples)
    ]
    tokens = Tokens((1,), (TokenType.SEPARATOR,), (-1,))
    for number, row in enumerate(rows):
        tokens = tokens + row.belonging_to(number)
    return Context(tokens), [replace(row, context_index=number) for number, row in enumerate(rows)]


def queries_of(count: int) -> list[list[int]]:
    """So many queries, of half to one and a half times the length of an example's text."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(_TEXT_TOKENS // 2, 3 * _TEXT_TOKENS // 2, (count,), generator=generator).tolist()
    return [_ids(length, generator) for length in lengths]


def labels_of(count: int) -> list[list[int]]:
    """So many labels of two tokens, none with the beginning of another."""
    return [[3 + number, 4 + number] for number in range(count)]


def _ids(count: int, generator: torch.Generator) -> list[int]:
    return torch.randint(3, _VOCABULARY["tiny"], (count,), generator=generator).tolist()
