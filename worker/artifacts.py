"""Artifacts and checkpoints behind an fsspec URL, written whole or not at all.

An artifact is named by the SHA-256 of its bytes and is checked against it when read. A checkpoint is named by its job.
This module knows bytes only, not what they mean.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from app.contract.names import artifact_url, checkpoint_url


class ArtifactCorrupt(Exception):
    """The bytes of an artifact do not have the hash that names it."""


def address_of(content: bytes) -> str:
    """The address of an artifact with these bytes."""
    return hashlib.sha256(content).hexdigest()


class Artifacts:
    """The artifacts below the fsspec URL ``root``."""

    def __init__(self, root: str) -> None:
        self._root = root.rstrip("/")

    def put(self, content: bytes) -> str:
        """Store ``content`` and return its address. Storing it again changes nothing."""
        address = address_of(content)
        self._write(artifact_url(self._root, address), content)
        return address

    def get(self, address: str) -> bytes:
        """The bytes at ``address``. Raises FileNotFoundError, or `ArtifactCorrupt` if they have changed."""
        content = self._read(artifact_url(self._root, address))
        if address_of(content) != address:
            raise ArtifactCorrupt(address)
        return content

    def remove(self, address: str) -> None:
        """Remove the artifact at ``address`` if it is there."""
        self._remove(artifact_url(self._root, address))

    def put_checkpoint(self, job_id: str, content: bytes) -> None:
        """Store the checkpoint of a job in place of the one before."""
        self._write(checkpoint_url(self._root, job_id), content)

    def get_checkpoint(self, job_id: str) -> bytes | None:
        """The checkpoint of a job, None if it has none."""
        with suppress(FileNotFoundError):
            return self._read(checkpoint_url(self._root, job_id))
        return None

    def remove_checkpoint(self, job_id: str) -> None:
        """Remove the checkpoint of a job if it has one."""
        self._remove(checkpoint_url(self._root, job_id))

    def _write(self, url: str, content: bytes) -> None:
        filesystem, path = fsspec.url_to_fs(url)
        partial = f"{path}.{secrets.token_hex(4)}.partial"
        folder = path.rpartition("/")[0]
        try:
            _pipe(filesystem, partial, content)
            if isinstance(filesystem, LocalFileSystem):
                _sync(partial)
            filesystem.mv(partial, path)
            if isinstance(filesystem, LocalFileSystem):
                _sync(folder)
        except BaseException:
            with suppress(OSError):
                filesystem.rm_file(partial)
            raise

    def _read(self, url: str) -> bytes:
        filesystem, path = fsspec.url_to_fs(url)
        content: bytes = filesystem.cat_file(path)
        return content

    def _remove(self, url: str) -> None:
        filesystem, path = fsspec.url_to_fs(url)
        with suppress(FileNotFoundError):
            filesystem.rm_file(path)
            remove_if_empty(filesystem, path)


def _pipe(filesystem: Any, path: str, content: bytes) -> None:
    """Write a file in a folder that is made if need be, and again if it is removed, being empty, meanwhile."""
    folder = path.rpartition("/")[0]
    for last in (False, True):
        filesystem.makedirs(folder, exist_ok=True)
        try:
            filesystem.pipe_file(path, content)
            return
        except FileNotFoundError:
            if last:
                raise


def remove_if_empty(filesystem: Any, path: str) -> None:
    """Remove the folder of a local file that was removed, if it was the last there."""
    if isinstance(filesystem, LocalFileSystem):
        with suppress(OSError):
            Path(path).parent.rmdir()


def _sync(path: str) -> None:
    """Return when a local file or folder is on disk: a record must not name what a power cut can still take away."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
