"""Files behind an fsspec URL, written whole or not at all. Knows bytes only, not what they mean."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import fsspec
from fsspec.implementations.local import LocalFileSystem

#: Times that a file is written at most because others remove its folder.
_TRIES: Final = 10


_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT)
#: Files that are being uploaded lie in this folder, which stays when it is empty.
_UPLOADS: Final = "uploads"


class ArtifactsUnavailable(Exception):
    """The file system of the artifacts did not do what it was asked."""


class FilesKept(ArtifactsUnavailable):
    """A backup is being made, which keeps files from being removed."""

    def __init__(self) -> None:
        super().__init__("a backup is being made, until whose end no file is removed; try again then")


class DiskFull(ArtifactsUnavailable):
    """The file system of the artifacts has no room."""


@contextmanager
def unavailable() -> Iterator[None]:
    """Turn what the file system raises into `ArtifactsUnavailable`."""
    try:
        yield
    except OSError as error:
        kind = DiskFull if error.errno in _NO_SPACE else ArtifactsUnavailable
        raise kind(str(error)) from error
    except Exception as error:  # each kind of file system behind fsspec has exceptions of its own
        raise ArtifactsUnavailable(str(error)) from error


def write_file(url: str, content: bytes) -> None:
    """Write a file in place of the one before. Raises what the file system raises."""
    filesystem, path = fsspec.url_to_fs(url)
    partial = f"{path}.{secrets.token_hex(4)}.partial"
    folder = path.rpartition("/")[0]
    try:
        _in_folder(filesystem, partial, lambda: filesystem.pipe_file(partial, content))
        if isinstance(filesystem, LocalFileSystem):
            _sync(partial)
        filesystem.mv(partial, path)
        if isinstance(filesystem, LocalFileSystem):
            _sync(folder)
    except BaseException:
        with suppress(OSError):
            filesystem.rm_file(partial)
        raise


def read_file(url: str) -> bytes:
    """The bytes of a file. Raises FileNotFoundError and what the file system raises."""
    filesystem, path = fsspec.url_to_fs(url)
    content: bytes = filesystem.cat_file(path)
    return content


def open_to_write(url: str) -> Any:
    """A new file to be written piece by piece. Raises `ArtifactsUnavailable`."""
    with unavailable():
        filesystem, path = fsspec.url_to_fs(url)
        filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
        return filesystem.open(path, "wb")


def move_file(source: str, target: str) -> None:
    """Move a whole file to a place in the same file system. Raises what the file system raises."""
    filesystem, path = fsspec.url_to_fs(source)
    _, goal = fsspec.url_to_fs(target)
    local = isinstance(filesystem, LocalFileSystem)
    if local:
        _sync(path)
    _in_folder(filesystem, goal, lambda: filesystem.mv(path, goal))
    if local:
        _sync(goal.rpartition("/")[0])


def open_to_read(url: str) -> Any:
    """A file to be read piece by piece. Raises FileNotFoundError and what the file system raises."""
    filesystem, path = fsspec.url_to_fs(url)
    return filesystem.open(path, "rb")


def read_lines(url: str) -> Iterator[bytes]:
    """The lines of a file, with their ends, one after the other. Raises `ArtifactsUnavailable`."""
    with unavailable(), open_to_read(url) as file:
        yield from file


def remove_file(url: str, *, whole: bool = True) -> None:
    """Remove a file, and what writers that died left of it, where it is there; without ``whole`` the latter alone.

    Raises `ArtifactsUnavailable`.
    """
    try:
        filesystem, path = fsspec.url_to_fs(url)
        for one in [*filesystem.glob(f"{path}.*.partial"), *([path] if whole else [])]:
            with suppress(FileNotFoundError):
                filesystem.rm_file(one)
                _remove_if_empty(filesystem, one)
    except Exception as error:  # as in `unavailable`
        raise ArtifactsUnavailable(str(error)) from error


def _in_folder(filesystem: Any, path: str, write: Callable[[], object]) -> None:
    """Write a file in a folder that is made if need be, and again if it is removed, being empty, meanwhile."""
    folder = path.rpartition("/")[0]
    for left in reversed(range(_TRIES)):
        filesystem.makedirs(folder, exist_ok=True)
        try:
            write()
            return
        except FileNotFoundError:
            if not left:
                raise


def _remove_if_empty(filesystem: Any, path: str) -> None:
    """Remove the folder of a local file that was removed, if it was the last there."""
    if isinstance(filesystem, LocalFileSystem) and Path(path).parent.name != _UPLOADS:
        with suppress(OSError):
            Path(path).parent.rmdir()


def _sync(path: str) -> None:
    """Return when a local file or folder is on disk: a record must not name what a power cut can still take away."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
