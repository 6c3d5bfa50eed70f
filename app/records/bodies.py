"""Bodies: what belongs to a row and is too long for it, such as examples and reports, as files by their hash.

A row holds the address. The scripts keep which addresses are in use; see `Records.begin_write`.
"""

from __future__ import annotations

import hashlib
from typing import Final

from app.contract.names import artifact_url
from app.records.files import ArtifactsUnavailable, read_file, remove_file, write_file

_SUFFIX: Final = ".json"


class BodyCorrupt(Exception):
    """A body is not there, or is not what its address says."""


class Bodies:
    """The bodies below the fsspec URL ``root``."""

    def __init__(self, root: str) -> None:
        self._root = root

    @staticmethod
    def address(body: str) -> str:
        """The address of a body: its SHA-256, and what it is."""
        return hashlib.sha256(body.encode()).hexdigest() + _SUFFIX

    def put(self, body: str) -> None:
        """Store a body at its address. Raises what the file system raises."""
        write_file(artifact_url(self._root, self.address(body)), body.encode())

    def get(self, address: str) -> str:
        """The body at an address. Raises `BodyCorrupt` and `ArtifactsUnavailable`."""
        try:
            body = read_file(artifact_url(self._root, address)).decode()
        except (FileNotFoundError, UnicodeDecodeError) as error:
            raise BodyCorrupt(address) from error
        except Exception as error:  # each kind of file system behind fsspec has exceptions of its own
            raise ArtifactsUnavailable(str(error)) from error
        if self.address(body) != address:
            raise BodyCorrupt(address)
        return body

    def remove(self, address: str) -> None:
        """Remove the body at an address if it is there. Raises `ArtifactsUnavailable`."""
        remove_file(artifact_url(self._root, address))
