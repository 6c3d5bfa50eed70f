"""A prompt in the files that PEFT reads and writes for CPT: `adapter_config.json` and `adapter_model.safetensors`.

PEFT keeps embedding and delta as one tensor [T, H], `prompt_embeddings`. The delta is what is left of it beside the
model's word embeddings of the same tokens.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Final

import safetensors.torch
import torch
from safetensors import SafetensorError, deserialize
from torch import Tensor

from worker.cpt.encoding.context import Context, Tokens
from worker.cpt.formats.bundle import Prompt

CONFIG: Final = "adapter_config.json"
WEIGHTS: Final = "adapter_model.safetensors"
_TENSOR: Final = "prompt_embeddings"
#: A token's type is one of four for each example, and each example has one token at least.
_KINDS: Final = 4
#: The types of the numbers that are read.
_DTYPES: Final = ("F16", "BF16", "F32", "F64")


def write(prompt: Prompt, model_id: str) -> dict[str, bytes]:
    """The two files of a prompt, by name; the same prompt always gives the same bytes."""
    config = asdict(
        Context(prompt.tokens).config(
            base_model_name_or_path=model_id,
            num_virtual_tokens=len(prompt.tokens),
            token_dim=prompt.embedding.shape[1],
            num_transformer_submodules=1,
            inference_mode=True,
        )
    )
    embeds = prompt.embeds.float().cpu().contiguous()
    text = json.dumps(config, sort_keys=True, indent=2, allow_nan=False)
    return {CONFIG: text.encode() + b"\n", WEIGHTS: safetensors.torch.save({_TENSOR: embeds}, {"format": "pt"})}


def read(
    config: bytes, weights: bytes, word_embeddings: Callable[[Sequence[int]], Tensor], vocabulary: int, tokens: int
) -> Prompt:
    """The prompt of PEFT's two files for a model with such `word_embeddings` [N, H] of ids below `vocabulary`.

    `tokens` is the most that the prompt may have.

    Raises:
        ValueError: files that are not those of an adapter of this kind, or not of this model; the message says what is
            wrong.
    """
    stated = _config(config)
    ids, types = _integers(stated, "cpt_token_ids"), _integers(stated, "cpt_tokens_type_mask")
    if not ids or len(ids) != len(types):
        raise ValueError("cpt_token_ids and cpt_tokens_type_mask must be of one length, and not empty.")
    if len(ids) > tokens:
        raise ValueError(f"The adapter has {len(ids)} tokens; the model takes {tokens}.")
    if min(ids) < 0 or max(ids) >= vocabulary:
        raise ValueError("cpt_token_ids has ids outside the model's vocabulary.")
    if min(types) < 0 or max(types) > _KINDS * len(ids):
        raise ValueError("cpt_tokens_type_mask has unknown token types.")
    embedding = word_embeddings(ids).float().cpu()
    embeds = _embeds(weights, tuple(embedding.shape))
    return Prompt(Tokens.from_reference(ids, types), embedding, embeds - embedding)


def _config(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{CONFIG} is not JSON.") from error
    if not isinstance(found, dict) or found.get("peft_type") != "CPT" or found.get("task_type") != "CAUSAL_LM":
        raise ValueError(f"{CONFIG} is not that of a CPT adapter (peft_type CPT, task_type CAUSAL_LM).")
    return found


def _integers(config: dict[str, Any], name: str) -> list[int]:
    found = config.get(name)
    if not isinstance(found, list) or any(type(one) is not int for one in found):
        raise ValueError(f"{name} must be a list of integers.")
    return found


def _embeds(blob: bytes, shape: tuple[int, ...]) -> Tensor:
    try:
        stated = dict(deserialize(blob))
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{WEIGHTS} is not a safetensors file.") from error
    if set(stated) != {_TENSOR}:
        raise ValueError(f"{WEIGHTS} must hold one tensor, {_TENSOR}.")
    if stated[_TENSOR]["dtype"] not in _DTYPES:
        raise ValueError(f"{_TENSOR} must hold numbers of one of the types {', '.join(_DTYPES)}.")
    if tuple(stated[_TENSOR]["shape"]) != shape:
        raise ValueError(f"{_TENSOR} has the shape {stated[_TENSOR]['shape']}; this model needs {list(shape)}.")
    found = safetensors.torch.load(blob)[_TENSOR].to(torch.float32)
    if not bool(found.isfinite().all()):
        raise ValueError(f"{_TENSOR} must hold finite floating-point numbers.")
    return found
