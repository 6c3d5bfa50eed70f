"""What deletions and crashes leave: files that are to be removed, and deletions that did not end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, cast

from app.records.connection import Store

#: A request that deletes has so long before a sweep goes on with it (milliseconds).
_DELETION_MS: Final = 60_000
_BATCH: Final = 100


@dataclass(frozen=True)
class ObjectRef:
    """A context or a job among those of all tenants."""

    tenant: str
    id: str


class Garbage:
    """The garbage of all tenants. Every method raises `StoreUnavailable`."""

    def __init__(self, store: Store, unreferenced_seconds: float) -> None:
        self._store = store
        self._unreferenced_seconds = unreferenced_seconds

    def files(self) -> dict[str, bool]:
        """Addresses of files that a crash left, and whether the file must be removed or only a part of it.

        Those to be removed are found again after a minute, until `collected` was called.
        """
        grace = int(self._unreferenced_seconds * 1000)
        found = cast("list[Any]", self._store.run("garbage", grace, _BATCH))
        return dict(zip(found[::2], map(bool, found[1::2]), strict=True))

    def collected(self, address: str) -> None:
        """Note that a file that was to be removed is gone."""
        self._store.run("collected", address)

    def deletions(self) -> list[ObjectRef]:
        """Contexts whose deletion was begun a minute ago or more and not ended."""
        found = cast("list[str]", self._store.run("deletions", _DELETION_MS, _BATCH))
        return [ObjectRef(*one.split(":", 1)) for one in found]

    def removals(self) -> list[ObjectRef]:
        """Batches whose files are to be removed, those of a deletion that was begun a minute ago or more among them."""
        found = cast("list[str]", self._store.run("removals", _DELETION_MS, _BATCH))
        return [ObjectRef(*one.split(":", 1)) for one in found]
