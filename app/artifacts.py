"""What the gateway does with artifacts and checkpoints: remove those that no record names any more.

Workers write and read them. What cannot be removed is an `ArtifactsUnavailable`.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from app.contract.names import artifact_url, checkpoint_url


class ArtifactsUnavailable(Exception):
    """The file system of the artifacts did not do what it was asked."""


def remove_artifact(root: str, address: str) -> None:
    """Remove the artifact with this address below the fsspec URL ``root``, and what writers left of it, if it is there.

    Raises `ArtifactsUnavailable`.
    """
    _remove(artifact_url(root, address))


def remove_parts(root: str, address: str) -> None:
    """Remove what writers that died left of an artifact. Raises `ArtifactsUnavailable`."""
    _remove(artifact_url(root, address), whole=False)


def remove_checkpoint(root: str, job_id: str) -> None:
    """Remove the checkpoint of a job below the fsspec URL ``root`` if it has one. Raises `ArtifactsUnavailable`."""
    _remove(checkpoint_url(root, job_id))


def _remove(url: str, *, whole: bool = True) -> None:
    try:
        filesystem, path = fsspec.url_to_fs(url)
        for one in [*filesystem.glob(f"{path}.*.partial"), *([path] if whole else [])]:
            with suppress(FileNotFoundError):
                filesystem.rm_file(one)
        if isinstance(filesystem, LocalFileSystem):
            with suppress(OSError):  # others are in the folder
                Path(path).parent.rmdir()
    except Exception as error:
        raise ArtifactsUnavailable(str(error)) from error
