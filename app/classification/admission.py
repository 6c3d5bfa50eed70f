"""Admission: whether a request may wait, by what waits already and how fast that goes down. Knows no bus and no texts.

A request that is refused is told when there will be room: those refused before it come first, so that clients who obey
return one after the other and not all at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

#: A measurement of the rate counts half after this long.
_HALF_LIFE_SECONDS: Final = 5.0
#: The wait that is told where no rate has been measured yet, and the longest that is told.
_FIRST_RETRY_SECONDS: Final = 1.0
_LONGEST_RETRY_SECONDS: Final = 60.0

Clock = Callable[[], float]


class Overloaded(Exception):
    """Too much waits for the model already; there should be room after ``retry_after`` seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"try again after {retry_after:.1f} s")
        self.retry_after = retry_after


class Load(NamedTuple):
    """What one request, or all that wait, weigh."""

    inputs: int = 0
    bytes: int = 0

    def __add__(self, other: object) -> Load:
        assert isinstance(other, Load)  # noqa: S101 - tuples add otherwise
        return Load(self.inputs + other.inputs, self.bytes + other.bytes)

    def __sub__(self, other: Load) -> Load:
        return Load(self.inputs - other.inputs, self.bytes - other.bytes)


class Throughput:
    """Inputs a second that are answered while a full batch waits; what is answered at leisure says nothing of it."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._inputs = self._seconds = 0.0
        self._since: float | None = None

    @property
    def rate(self) -> float | None:
        """The measured rate; None before the first measurement. It falls while nothing is answered."""
        if not self._inputs:
            return None
        return self._inputs / (self._seconds + (0.0 if self._since is None else self._clock() - self._since))

    def note(self, answered: int, *, busy: bool) -> None:
        """So many inputs were answered just now; ``busy`` says whether a full batch still waits."""
        now = self._clock()
        if self._since is not None:
            seconds = now - self._since
            kept = 0.5 ** (seconds / _HALF_LIFE_SECONDS)
            self._inputs = self._inputs * kept + answered
            self._seconds = self._seconds * kept + seconds
        self._since = now if busy else None

    def note_busy(self) -> None:
        """A full batch waits from now on, if none did before."""
        if self._since is None:
            self._since = self._clock()


@dataclass
class Admission:
    """Bounds on what waits in one line: so much in all, and so long (seconds) for each that comes."""

    most: Load
    clock: Clock = time.monotonic
    throughput: Throughput = field(init=False)
    _promised_until: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.throughput = Throughput(self.clock)

    def admit(self, request: Load, waiting: Load, seconds: float) -> None:
        """Return if ``request``, which should begin within ``seconds``, may wait too; a lone one always may.

        Raises `Overloaded`.
        """
        excess = self._excess(request, waiting, seconds)
        if waiting.inputs and excess > 0:
            raise self._refusal(excess, request.inputs)

    def misjudged(self, request: Load, waiting: Load, seconds: float) -> Overloaded:
        """The refusal of a ``request`` that was let wait among ``waiting`` and should have begun by now."""
        return self._refusal(max(request.inputs, self._excess(request, waiting, seconds)), request.inputs)

    def _refusal(self, excess: float, inputs: int) -> Overloaded:
        """The refusal of ``inputs``, for which there is room once ``excess`` others are gone."""
        rate = self.throughput.rate
        if rate is None:
            return Overloaded(_FIRST_RETRY_SECONDS)
        now = self.clock()
        room_at = max(now + excess / rate, self._promised_until)
        self._promised_until = min(room_at + inputs / rate, now + _LONGEST_RETRY_SECONDS)
        return Overloaded(min(room_at - now, _LONGEST_RETRY_SECONDS))

    def _excess(self, request: Load, waiting: Load, seconds: float) -> float:
        """How many inputs must be gone before ``request`` may wait; none if that is not positive."""
        total, rate = waiting + request, self.throughput.rate
        over_bytes = (total.bytes - self.most.bytes) * waiting.inputs / max(1, waiting.bytes)
        over_wait = waiting.inputs - seconds * rate if rate is not None else 0.0
        return max(total.inputs - self.most.inputs, over_bytes, over_wait)
