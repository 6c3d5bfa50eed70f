"""The table of base models in docs/models.md: what each needs, computed by the worker's own planner.

python -m release.models docs/models.md
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config

from worker.cpt.model.needs import Needs

_GIB: Final = 1024**3
_CONTEXTS: Final = (1024, 4096)
_TABLE: Final = re.compile(r"(?<=<!-- table -->\n).*?(?=<!-- end of table -->)", re.DOTALL)


@dataclass(frozen=True)
class Shape:
    """A published model and the sizes that its own configuration states."""

    name: str
    config: Any


def _sizes(hidden: int, inner: int, layers: int, heads: int, key_heads: int, vocabulary: int) -> dict[str, int]:
    return {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "vocab_size": vocabulary,
    }


SHAPES: Final = (
    Shape("SmolLM2-135M", LlamaConfig(**_sizes(576, 1536, 30, 9, 3, 49152), tie_word_embeddings=True)),
    Shape("Qwen2.5-0.5B", Qwen2Config(**_sizes(896, 4864, 24, 14, 2, 151936), tie_word_embeddings=True)),
    Shape("Llama-3.2-1B", LlamaConfig(**_sizes(2048, 8192, 16, 32, 8, 128256), tie_word_embeddings=True)),
    Shape("SmolLM2-1.7B", LlamaConfig(**_sizes(2048, 8192, 24, 32, 32, 49152), tie_word_embeddings=True)),
    Shape("Qwen2.5-7B", Qwen2Config(**_sizes(3584, 18944, 28, 28, 4, 152064), tie_word_embeddings=False)),
    Shape("Mistral-7B", MistralConfig(**_sizes(4096, 14336, 32, 32, 8, 32768), tie_word_embeddings=False)),
    Shape("Llama-3-8B", LlamaConfig(**_sizes(4096, 14336, 32, 32, 8, 128256), tie_word_embeddings=False)),
)


def table() -> str:
    """Rows of Markdown: weights, and memory to tune and to serve one context, in the dtype of a GPU."""
    heads = "".join(f" tune {size:,} | serve {size:,} |" for size in _CONTEXTS)
    lines = [f"| base model | dtype | weights |{heads}", "|---|---|---|" + "---|---|" * len(_CONTEXTS)]
    return "\n".join([*lines, *map(_row, SHAPES)]) + "\n"


def _row(shape: Shape) -> str:
    with torch.device("meta"):
        parameters = sum(weight.numel() for weight in AutoModelForCausalLM.from_config(shape.config).parameters())
    dtype = torch.float32 if parameters < 10**9 else torch.bfloat16
    needs = [Needs.of(shape.config, parameters, dtype, size) for size in _CONTEXTS]
    figures = "".join(f" {_gib(one.tune)} | {_gib(one.serve)} |" for one in needs)
    return f"| {shape.name} | {str(dtype).removeprefix('torch.')} | {_gib(needs[0].weights)} |{figures}"


def _gib(count: int) -> str:
    return f"{count / _GIB:.1f}"


def page(text: str) -> str:
    """The page `text` with the table as it is now."""
    return _TABLE.sub(table().replace("\\", ""), text)


def main() -> int:
    """Write the table into the file that is named."""
    file = Path(sys.argv[1])
    file.write_text(page(file.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
