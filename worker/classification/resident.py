"""Resident contexts: what a worker keeps of each context that it answers for, least recently used out first.

Knows artifacts and prefix KVs, not who asks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

from app.contract.messages import Failure, PrefixFigures
from app.contract.names import ErrorCode
from app.contract.plain import PLAIN_ADDRESS, PlainContext
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


class CannotClassify(Exception):
    """What is asked for cannot be done, for the reason in ``failure``, and the request is to blame."""

    def __init__(self, code: ErrorCode, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.failure = Failure(code=code, message=message, param=param)


class UnusableContext(Exception):
    """An artifact that is whole but cannot serve this base model."""


class ModelChanged(Exception):
    """An artifact that was tuned for a model of this id, but with other files."""

    def __init__(self, model: str) -> None:
        here = f"{model}, or its sentence encoder, has now"
        super().__init__(f"the context was tuned for other weights than those that {here}; retune it")


@dataclass
class _Slot:
    """A place for one context; whoever holds the lock loads it, once."""

    lock: Lock = field(default_factory=Lock)
    resident: Resident | None = None


class ResidentContexts:
    """At most ``capacity`` bytes of contexts, not counting the pinned ones, and always those in use.

    ``prepare`` makes a `Resident` of an artifact's bytes, ``prepare_plain`` of a plain context, or they raise what
    `get` does; they may be slow and run once a context, whoever waits.
    """

    def __init__(
        self,
        artifacts: Artifacts,
        prepare: Callable[[bytes], Resident],
        capacity: int,
        prepare_plain: Callable[[PlainContext], Resident] | None = None,
    ) -> None:
        self._artifacts = artifacts
        self._prepare = prepare
        self._prepare_plain = prepare_plain
        self._capacity: Final = capacity
        self._slots: OrderedDict[str, _Slot] = OrderedDict()
        self._pinned: frozenset[str] = frozenset()
        self._lock = Lock()
        self._hits = self._loads = self._evictions = 0

    @property
    def figures(self) -> PrefixFigures:
        """What is kept, and what was counted so far."""
        residents = [slot.resident for slot in list(self._slots.values())]
        return PrefixFigures(
            bytes=sum(one.nbytes for one in residents if one is not None),
            capacity_bytes=self._capacity,
            hits=self._hits,
            loads=self._loads,
            evictions=self._evictions,
        )

    @property
    def share(self) -> int:
        """Bytes of contexts that one batch may have in use, unless a single one is larger."""
        return self._capacity // _SHARES

    def __len__(self) -> int:
        return sum(slot.resident is not None for slot in list(self._slots.values()))

    def pin(self, addresses: Iterable[str]) -> None:
        """Keep these contexts once they are loaded, whatever else is asked for; those pinned before become ordinary."""
        self._pinned = frozenset(addresses)

    def get(self, address: str, plain: PlainContext | None = None) -> Resident:
        """The context whose artifact is at ``address``, or the plain context with that address, loaded if need be.

        Raises FileNotFoundError if there is none, `NewerFormat`, `ModelChanged`, and `ArtifactCorrupt` or
        `UnusableContext` if it cannot be trusted; `CannotClassify` where a plain context is to be loaded and
        not given, or cannot be read.
        """
        with self._lock:
            slot = self._slots.setdefault(address, _Slot())
            self._slots.move_to_end(address)
        with slot.lock:
            if slot.resident is not None:
                self._hits += 1
            else:
                try:
                    slot.resident = self._load(address, plain)
                except BaseException:
                    with self._lock:
                        self._slots.pop(address, None)
                    raise
                self._loads += 1
                self._evict(keep=address)
            return slot.resident

    def _load(self, address: str, plain: PlainContext | None) -> Resident:
        if not address.startswith(PLAIN_ADDRESS):
            return self._prepare(self._artifacts.get(address))
        if plain is None or self._prepare_plain is None:
            raise CannotClassify(ErrorCode.EXAMPLES_NEEDED, "the worker has not kept the examples")
        return self._prepare_plain(plain)

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
                    self._evictions += 1
