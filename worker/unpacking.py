"""Folders that models are unpacked into, once: whole or not at all, with the hashes of their files."""

from __future__ import annotations

import hashlib
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from app.contract.model_files import SUMS, sha256

#: From this age on a folder that is not whole is what a killed process left.
_ABANDONED_SECONDS: Final = 3600.0


def unpacked(name: str, content: str, cache: Path, unpack: Callable[[Path], None]) -> Path:
    """The folder in ``cache`` for the model ``name`` made of this ``content``; ``unpack`` fills it on first use.

    ``content`` is a hash and whatever else decides what is unpacked: a file that is installed again is not unpacked
    again. Raises what ``unpack`` raises, and OSError.
    """
    key = hashlib.sha256(content.encode()).hexdigest()
    folder = cache / f"{name}-{key[:12]}"
    if folder.exists():
        return folder
    _remove_abandoned(folder)
    unfinished = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        unpack(unfinished)
        _note_sums(unfinished)
        _put_in_place(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _remove_abandoned(folder: Path) -> None:
    for unfinished in folder.parent.glob(f".{folder.name}.*"):
        if time.time() - unfinished.stat().st_mtime > _ABANDONED_SECONDS:
            shutil.rmtree(unfinished, ignore_errors=True)


def _note_sums(folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{sha256(path)}  {path.relative_to(folder)}\n" for path in files]
    (folder / SUMS).write_text("".join(lines))


def _put_in_place(unfinished: Path, folder: Path) -> None:
    try:
        unfinished.rename(folder)
    except OSError:
        if not folder.exists():  # where it does, another worker was faster
            raise
