"""Pinned contexts: keeps the contexts that the configuration names resident, also when a name gets a new version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Event, Thread
from typing import Final

import structlog

from app.contract.names import DEFAULT_TENANT, JobStatus
from app.records.connection import StoreUnavailable
from app.records.store import Records
from worker.classification.resident import ResidentContexts
from worker.classification.together import failure_of

#: How often names are resolved anew.
_POLL_SECONDS: Final = 5.0


class PinningThread:
    """Pins the contexts of ``refs`` in the resident contexts of their models until `stop`."""

    def __init__(self, records: Records, residents: Mapping[str, ResidentContexts], refs: Sequence[str]) -> None:
        self._records = records
        self._residents = residents
        self._refs = refs
        self._refused: set[str] = set()
        self._stopped = Event()
        self._thread = Thread(target=self._pin_until_stopped, name="pinning", daemon=True)

    def start(self) -> None:
        """Begin to pin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stopped.set()
        self._thread.join(5)

    def _pin_until_stopped(self) -> None:
        while not self._stopped.is_set():
            try:
                self.pin_now()
            except StoreUnavailable as error:
                structlog.get_logger().warning("not_pinned", reason=str(error))
            except Exception as error:  # noqa: BLE001 - the thread must go on: what cannot be pinned now may be later
                structlog.get_logger().error("pinning_failed", exc_info=error)
            self._stopped.wait(_POLL_SECONDS)

    def pin_now(self) -> None:
        """Resolve the refs, and pin and load what they stand for now.

        Refs of nothing, or of nothing tuned yet, are passed over; what cannot be loaded is logged once and does not
        touch the others. Raises `StoreUnavailable`.
        """
        wanted: dict[str, set[str]] = {model: set() for model in self._residents}
        for ref in self._refs:
            stored = self._records.of(DEFAULT_TENANT).contexts.resolve(ref, report=False)
            if stored is not None and stored.artifact and stored.context.status == JobStatus.SUCCEEDED:
                wanted.setdefault(stored.context.model, set()).add(stored.artifact)
        for model, residents in self._residents.items():
            residents.pin(wanted[model])
            for artifact in wanted[model]:
                self._load(residents, artifact)

    def _load(self, residents: ResidentContexts, artifact: str) -> None:
        """Load a context unless it is there; one that cannot be loaded is tried again each time."""
        try:
            residents.get(artifact)
            self._refused.discard(artifact)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one, the others must be loaded
            if artifact not in self._refused:
                reason = failure_of(error, ()).message
                structlog.get_logger().warning("not_pinned", artifact=artifact, reason=reason)
            self._refused.add(artifact)
