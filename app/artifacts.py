"""What the gateway removes of artifacts and checkpoints: those that no record names any more.

What cannot be removed is an `ArtifactsUnavailable`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from app.contract.names import artifact_url, checkpoint_url
from app.records.files import ArtifactsUnavailable, remove_file
from app.records.garbage import FilesLeft

#: A folder that is out of reach fails slowly, and for all files: it is asked no more after so long.
_PATIENCE_SECONDS: Final = 10.0

_Thing = TypeVar("_Thing")


def remove_artifact(root: str, address: str) -> None:
    """Remove the artifact with this address below the fsspec URL ``root``, and what writers left of it, if it is there.

    Raises `ArtifactsUnavailable`.
    """
    remove_file(artifact_url(root, address))


def remove_artifacts(root: str, files: FilesLeft) -> tuple[str, ...]:
    """Remove artifacts for as long as nobody else may remove or write them; returns the addresses of those removed.

    Raises `ArtifactsUnavailable`.
    """
    gone = []
    for address in files.addresses:
        if time.monotonic() >= files.until:
            break
        remove_artifact(root, address)
        gone.append(address)
    return tuple(gone)


def remove_parts(root: str, address: str) -> None:
    """Remove what writers that died left of an artifact. Raises `ArtifactsUnavailable`."""
    remove_file(artifact_url(root, address), whole=False)


def remove_checkpoint(root: str, job_id: str) -> None:
    """Remove the checkpoint of a job below the fsspec URL ``root`` if it has one. Raises `ArtifactsUnavailable`."""
    remove_file(checkpoint_url(root, job_id))


def remove_each(
    remove: Callable[[_Thing], None], things: Iterable[_Thing], patience_seconds: float = _PATIENCE_SECONDS
) -> None:
    """Call ``remove`` for each thing: files that cannot be removed hold up no others, unless failing takes long.

    Raises, after all of them, or after the first failure when patience is at its end, the last `ArtifactsUnavailable`;
    other errors at once.
    """
    until = time.monotonic() + patience_seconds
    failed: ArtifactsUnavailable | None = None
    for thing in things:
        try:
            remove(thing)
        except ArtifactsUnavailable as error:
            failed = error
            if time.monotonic() > until:
                break
    if failed is not None:
        raise failed
