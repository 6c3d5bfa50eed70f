"""Specs: what contexts of a tenant are made of, as files by their hash.

Such a file is there before its context: a worker plans from it, and the script that creates the context refers to it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from app.contract.tuning import TuningSpec
from app.records.bodies import Bodies, BodyCorrupt
from app.records.connection import POLL_SECONDS, Store, StoreUnavailable
from app.records.files import ArtifactsUnavailable, unavailable
from app.records.garbage import writer
from app.records.rows import tolerant


@dataclass(frozen=True)
class SpecFile:
    """Where the file of a spec is, and how long it is."""

    address: str
    bytes: int


class Specs:
    """The specs of a tenant. Every method raises `StoreUnavailable` and `ArtifactsUnavailable`."""

    def __init__(self, store: Store, bodies: Bodies, tenant: str) -> None:
        self._store = store
        self._bodies = bodies
        self._tenant = tenant

    def get(self, context_id: str) -> TuningSpec | None:
        """The spec of the context with this id. Raises `BodyCorrupt`."""
        address = self._store.spec(self._tenant, context_id)
        if not address:
            return None
        try:
            return tolerant(TuningSpec, self._bodies.get(address))
        except BodyCorrupt:
            if self._store.spec(self._tenant, context_id) is None:  # deleted meanwhile
                return None
            raise

    @contextmanager
    def written(self, context_id: str, spec: TuningSpec) -> Iterator[SpecFile]:
        """The file of the spec of a context that is about to be created; it is gone again if the context was not."""
        file = self.write(context_id, spec)
        try:
            yield file
        finally:
            self.release(context_id, file)

    def write(self, context_id: str, spec: TuningSpec) -> SpecFile:
        """Write the file of a spec, until `release`."""
        body = spec.model_dump_json()
        file = SpecFile(self._bodies.address(body), len(body.encode()))
        while self._store.run("begin_upload", self._tenant, context_id, file.address) == "wait":
            time.sleep(POLL_SECONDS)  # a file with the same content is being removed
        try:
            with unavailable():
                self._bodies.put(body)
        except ArtifactsUnavailable:
            self.release(context_id, file)
            raise
        return file

    def release(self, context_id: str, file: SpecFile) -> None:
        """Remove the file unless a row refers to it. What fails is left to a sweep."""
        with suppress(StoreUnavailable, ArtifactsUnavailable):
            if self._store.run("end_write", self._tenant, context_id, 0, file.address):
                self._bodies.remove(file.address)
                self._store.run("collected", writer(self._tenant, context_id), file.address)
