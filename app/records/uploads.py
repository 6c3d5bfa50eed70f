"""Uploads: files whose address, their hash, is known at their end; written piece by piece, never held whole."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from app.contract.names import artifact_url
from app.records.connection import POLL_SECONDS, Store, StoreUnavailable, new_id
from app.records.files import ArtifactsUnavailable, move_file, open_to_write, remove_file, unavailable
from app.records.garbage import writer

#: A file that nobody has renewed for longer than the sweep's grace is taken for one that a crash left.
RENEW_SECONDS: Final = 30.0


class Upload:
    """A file that a request writes for an object, with the id ``owner``, that it is about to create.

    Blocking; one thread at a time. What is neither kept nor discarded, since the process died, a sweep removes.
    """

    def __init__(self, store: Store, root: str, tenant: str, owner: str, suffix: str) -> None:
        self._store = store
        self._root = root
        self._owned = tenant, owner
        self._suffix = suffix
        self._address = f"uploads/{new_id('upl')}"
        self._renewed = time.monotonic()
        self._hash = hashlib.sha256()
        self._written: str | None = None
        self.size = 0
        self._store.run("begin_upload", *self._owned, self._address)
        try:
            self._file: Any = open_to_write(self.url)
        except BaseException:
            self.discard()
            raise

    @property
    def url(self) -> str:
        """Where the file lies."""
        return artifact_url(self._root, self._address)

    @property
    def address(self) -> str:
        """Where it lies among the artifacts."""
        return self._address

    @property
    def sha256(self) -> str:
        """The hash of what was written, in hexadecimal."""
        return self._written or self._hash.hexdigest()

    def write(self, piece: bytes) -> None:
        """Append. Raises `ArtifactsUnavailable` and `StoreUnavailable`."""
        with unavailable():
            self._file.write(piece)
        self._hash.update(piece)
        self.size += len(piece)
        self.renew()

    def renew(self) -> None:
        """Say now and then that the file is still being written. Raises `StoreUnavailable`."""
        if time.monotonic() - self._renewed >= RENEW_SECONDS:
            self._store.run("begin_upload", *self._owned, self._address)
            self._renewed = time.monotonic()

    def close(self) -> None:
        """End writing, and leave the file where it is. Raises `ArtifactsUnavailable`."""
        with unavailable():
            self._file.close()

    def note_written(self, size: int, sha256: str) -> None:
        """Take note of what another process has written in its place."""
        self.size, self._written = size, sha256

    def keep(self) -> str:
        """End writing, move the file to its hash and return its address, for a script that refers to it.

        Raises `ArtifactsUnavailable` and `StoreUnavailable`.
        """
        self.close()
        address, old = f"{self.sha256}{self._suffix}", self._address
        while self._store.run("begin_upload", *self._owned, address) == "wait":
            time.sleep(POLL_SECONDS)  # a file with the same content is being removed
        self._address = address
        with unavailable():
            move_file(artifact_url(self._root, old), self.url)
        self._store.run("end_write", *self._owned, 0, old)
        self._store.run("collected", writer(*self._owned), old)
        return address

    def discard(self) -> None:
        """Remove the file unless a row refers to it. What fails is left to a sweep."""
        with suppress(StoreUnavailable, ArtifactsUnavailable, AttributeError):
            self.close()
        with suppress(StoreUnavailable, ArtifactsUnavailable):
            if self._store.run("end_write", *self._owned, 0, self._address):
                remove_file(self.url)
                self._store.run("collected", writer(*self._owned), self._address)


class Uploads:
    """The uploads of a tenant."""

    def __init__(self, store: Store, root: str, tenant: str) -> None:
        self._store = store
        self._root = root
        self._tenant = tenant

    def begin(self, owner: str, suffix: str = "") -> Upload:
        """An empty file for the object ``owner``. Raises `ArtifactsUnavailable` and `StoreUnavailable`."""
        return Upload(self._store, self._root, self._tenant, owner, suffix)


@contextmanager
def written_for(store: Store, root: str, request_id: str, address: str) -> Iterator[None]:
    """Write within an upload that another process asked for by the request ``request_id``.

    That process may give up meanwhile: the file is removed at the end then, by a sweep if this process dies before.
    Raises `StoreUnavailable`.
    """
    while store.run("begin_upload", "", request_id, address) == "wait":
        time.sleep(POLL_SECONDS)  # it is being removed
    try:
        yield
    finally:
        with suppress(StoreUnavailable, ArtifactsUnavailable):
            if store.run("end_write", "", request_id, 0, address):
                remove_file(artifact_url(root, address))
                store.run("collected", writer("", request_id), address)
