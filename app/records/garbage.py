"""What deletions and crashes leave: files that are to be removed, and deletions that did not end."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final, cast

from app.records.connection import Store, new_id

#: A request that deletes has so long before a sweep goes on with it (milliseconds).
_DELETION_MS: Final = 60_000
_BATCH: Final = 100
#: How long a remover removes files before it asks for them again: half of its lease on them.
_REMOVAL_SECONDS: Final = 30.0


def removal_end() -> float:
    """Until when a remover may remove files that it asks for now, by `time.monotonic`."""
    return time.monotonic() + _REMOVAL_SECONDS


def new_remover() -> str:
    """A name for one that removes files."""
    return new_id("remover")


def writer(tenant: str, object_id: str, fence: int = 0) -> str:
    """The name of one that writes files for an object, as the scripts put it together; a request has no fence."""
    return f"{tenant}:{object_id}:{fence}"


@dataclass(frozen=True)
class ObjectRef:
    """A context or a job among those of all tenants."""

    tenant: str
    id: str


@dataclass(frozen=True)
class FilesLeft:
    """Files that ``remover`` is to remove, and nobody else, until `removal_end`.

    Where others are at those that are left, there are none for it, but ``wait_seconds`` until it may be its turn.
    """

    remover: str
    until: float
    wait_seconds: float
    addresses: tuple[str, ...]


class Garbage:
    """The garbage of all tenants. Every method raises `StoreUnavailable`."""

    def __init__(self, store: Store, unreferenced_seconds: float) -> None:
        self._store = store
        self._unreferenced_seconds = unreferenced_seconds
        self._remover = new_remover()

    def files(self) -> dict[str, bool]:
        """Addresses of files that a crash left, and whether the file must be removed or only a part of it.

        Those to be removed are the caller's until `removal_end`, and found again after a minute, until `collected` was
        called.
        """
        grace = int(self._unreferenced_seconds * 1000)
        found = cast("list[Any]", self._store.run("garbage", grace, _BATCH, self._remover))
        return dict(zip(found[::2], map(bool, found[1::2]), strict=True))

    def collected(self, address: str) -> None:
        """Note that a file is gone that `files` named."""
        self._store.run("collected", self._remover, address)

    def deletions(self) -> list[ObjectRef]:
        """Contexts whose deletion was begun a minute ago or more and not ended."""
        found = cast("list[str]", self._store.run("deletions", _DELETION_MS, _BATCH))
        return [ObjectRef(*one.split(":", 1)) for one in found]

    def removals(self) -> list[ObjectRef]:
        """Batches whose files are to be removed, those of a deletion that was begun a minute ago or more among them."""
        found = cast("list[str]", self._store.run("removals", _DELETION_MS, _BATCH))
        return [ObjectRef(*one.split(":", 1)) for one in found]
