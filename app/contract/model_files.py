"""How the hashes of models' files are noted on a machine: workers note them, `contextune doctor` compares."""

from __future__ import annotations

from pathlib import Path
from typing import Final

#: A JSON object in the folder of unpacked models: SHA-256 by `file_key`.
HASHES: Final = "hashes.json"


def file_key(path: Path) -> str:
    """A file as it is now: its path, size (bytes) and time of change (ns). Raises OSError."""
    found = path.stat()
    return f"{path.resolve()} {found.st_size} {found.st_mtime_ns}"
