"""Artifacts and checkpoints behind an fsspec URL, written whole or not at all.

An artifact is named by the SHA-256 of its bytes and is checked against it when read. A checkpoint is named by its job.
This module knows bytes only, not what they mean.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Any, Final

from app.contract.names import artifact_url, checkpoint_url
from app.records.files import open_to_read, read_file, remove_file, write_file

_PIECE_BYTES: Final = 1024 * 1024


class ArtifactCorrupt(Exception):
    """The bytes of an artifact do not have the hash that names it."""


def address_of(content: bytes, suffix: str = "") -> str:
    """The address of an artifact with these bytes; ``suffix`` says what it is, if it is no tuned context."""
    return hashlib.sha256(content).hexdigest() + suffix


class Artifacts:
    """The artifacts below the fsspec URL ``root``."""

    def __init__(self, root: str) -> None:
        self._root = root.rstrip("/")

    def url(self, address: str) -> str:
        """Where the file with this address lies."""
        return artifact_url(self._root, address)

    def put(self, content: bytes, suffix: str = "") -> str:
        """Store ``content`` and return its address. Storing it again changes nothing."""
        address = address_of(content, suffix)
        write_file(artifact_url(self._root, address), content)
        return address

    def get(self, address: str) -> bytes:
        """The bytes at ``address``. Raises FileNotFoundError, or `ArtifactCorrupt` if they have changed."""
        content = read_file(artifact_url(self._root, address))
        if address_of(content, "".join(address.partition(".")[1:])) != address:
            raise ArtifactCorrupt(address)
        return content

    def open(self, address: str) -> Any:
        """The artifact at ``address`` as a binary file, checked piece by piece. Raises what `get` does."""
        digest, url = hashlib.sha256(), artifact_url(self._root, address)
        with open_to_read(url) as file:
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
        if digest.hexdigest() != address.partition(".")[0]:
            raise ArtifactCorrupt(address)
        return open_to_read(url)

    def remove(self, address: str) -> None:
        """Remove the artifact at ``address`` if it is there."""
        remove_file(artifact_url(self._root, address))

    def put_checkpoint(self, job_id: str, content: bytes) -> None:
        """Store the checkpoint of a job in place of the one before."""
        write_file(checkpoint_url(self._root, job_id), content)

    def get_checkpoint(self, job_id: str) -> bytes | None:
        """The checkpoint of a job, None if it has none."""
        with suppress(FileNotFoundError):
            return read_file(checkpoint_url(self._root, job_id))
        return None

    def remove_checkpoint(self, job_id: str) -> None:
        """Remove the checkpoint of a job if it has one."""
        remove_file(checkpoint_url(self._root, job_id))
