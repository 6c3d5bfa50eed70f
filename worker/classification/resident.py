"""Resident contexts: what a worker keeps of each context that it answers for, least recently used out first.

Knows artifacts and prefix KVs, not who asks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

from worker.artifacts import Artifacts
from worker.cpt.encoding.template import Template
from worker.cpt.scoring.predict import Predictor

#: Batches that may have contexts in use: together they hold no more than is kept.
_SHARES: Final = 8


@dataclass(frozen=True)
class Resident:
    """A context that is ready to answer."""

    predictor: Predictor
    template: Template

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self.predictor.nbytes


class UnusableContext(Exception):
    """An artifact that is whole but cannot serve this base model."""


class ModelChanged(Exception):
    """An artifact that was tuned for a model of this id, but with other files."""

    def __init__(self, model: str) -> None:
        super().__init__(f"the context was tuned for other weights than those that {model} has now; retune it")


@dataclass
class _Slot:
    """A place for one context; whoever holds the lock loads it, once."""

    lock: Lock = field(default_factory=Lock)
    resident: Resident | None = None


class ResidentContexts:
    """At most ``capacity`` bytes of contexts, not counting the pinned ones, and always those in use.

    ``prepare`` makes a `Resident` of an artifact's bytes, or raises what `get` does; it may be slow and runs once a
    context, whoever waits.
    """

    def __init__(self, artifacts: Artifacts, prepare: Callable[[bytes], Resident], capacity: int) -> None:
        self._artifacts = artifacts
        self._prepare = prepare
        self._capacity: Final = capacity
        self._slots: OrderedDict[str, _Slot] = OrderedDict()
        self._pinned: frozenset[str] = frozenset()
        self._lock = Lock()

    @property
    def share(self) -> int:
        """Bytes of contexts that one batch may have in use, unless a single one is larger."""
        return self._capacity // _SHARES

    def __len__(self) -> int:
        return sum(slot.resident is not None for slot in list(self._slots.values()))

    def pin(self, addresses: Iterable[str]) -> None:
        """Keep these contexts once they are loaded, whatever else is asked for; those pinned before become ordinary."""
        self._pinned = frozenset(addresses)

    def get(self, address: str) -> Resident:
        """The context whose artifact is at ``address``, loaded if need be.

        Raises FileNotFoundError if there is none, `ModelChanged`, and `ArtifactCorrupt` or `UnusableContext` if it
        cannot be trusted.
        """
        with self._lock:
            slot = self._slots.setdefault(address, _Slot())
            self._slots.move_to_end(address)
        with slot.lock:
            if slot.resident is None:
                try:
                    slot.resident = self._prepare(self._artifacts.get(address))
                except BaseException:
                    with self._lock:
                        self._slots.pop(address, None)
                    raise
                self._evict(keep=address)
            return slot.resident

    def _evict(self, keep: str) -> None:
        with self._lock:
            sizes = {
                address: slot.resident.nbytes
                for address, slot in self._slots.items()
                if slot.resident is not None and address not in self._pinned
            }
            used = sum(sizes.values())
            for address, size in sizes.items():
                if used <= self._capacity:
                    return
                if address != keep:
                    used -= size
                    del self._slots[address]
