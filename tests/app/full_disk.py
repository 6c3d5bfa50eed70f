"""A file system without room: `fsspec` chooses it by the URL of the artifacts, as it does any other."""

import errno
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileOpener, LocalFileSystem


class FullFile(LocalFileOpener):  # type: ignore[misc]
    """A file that takes no byte."""

    def write(self, *_: Any, **__: Any) -> Any:
        """Raise what a full disk does."""
        raise OSError(errno.ENOSPC, "no room")


class FullDisk(LocalFileSystem):  # type: ignore[misc]
    """The local disk at ``full:///…``: its files can be made, read and removed, but not written."""

    protocol = "full"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        stripped: str = LocalFileSystem._strip_protocol(path.removeprefix("full://"))
        return stripped

    def _open(self, path: str, mode: str = "rb", *_: Any, **options: Any) -> LocalFileOpener:
        kind = FullFile if "w" in mode else LocalFileOpener
        return kind(path, mode, fs=self, **options)


def register() -> None:
    """Let URLs begin with ``full://``."""
    fsspec.register_implementation("full", FullDisk, clobber=True)
