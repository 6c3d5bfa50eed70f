"""What the gateway does with artifacts and checkpoints: remove those that no record names any more.

Workers write and read them. One that cannot be removed is reported and left.
"""

from __future__ import annotations

from contextlib import suppress

import fsspec
import structlog

from app.contract.names import artifact_url, checkpoint_url


def remove_artifact(root: str, address: str) -> None:
    """Remove the artifact with this address below the fsspec URL ``root`` if it is there."""
    _remove(artifact_url(root, address))


def remove_checkpoint(root: str, job_id: str) -> None:
    """Remove the checkpoint of a job below the fsspec URL ``root`` if it has one."""
    _remove(checkpoint_url(root, job_id))


def _remove(url: str) -> None:
    try:
        filesystem, path = fsspec.url_to_fs(url)
        with suppress(FileNotFoundError):
            filesystem.rm_file(path)
    except Exception as error:  # noqa: BLE001 - each file system has its own; the record has changed already
        structlog.get_logger().warning("not_removed", url=url, reason=str(error))
