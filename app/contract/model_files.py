"""How the hashes of models' files are noted on a machine: workers note them, `contextune doctor` compares."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

#: A JSON object in the folder of unpacked models: SHA-256 by `file_key`.
HASHES: Final = "hashes.json"
#: In the folder of each unpacked model: SHA-256 and path of its files, as `sha256sum --check` reads them.
SUMS: Final = "SHA256SUMS"


def file_key(path: Path) -> str:
    """A file as it is now: its path, size (bytes) and time of change (ns). Raises OSError."""
    found = path.stat()
    return f"{path.resolve()} {found.st_size} {found.st_mtime_ns}"


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
