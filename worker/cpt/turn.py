"""Letting others have a turn: what long work does between two pieces of it. Knows neither the work nor the others."""

from typing import Final, Protocol


class Turn(Protocol):
    """Long work offers its turn to others between two pieces; whatever `offer` raises ends the work."""

    def offer(self, done: float | None = None, /) -> None:
        """Let those who wait go ahead. `done` is the fraction of the current step that is done, if the work knows."""


class _Alone:
    def offer(self, _: float | None = None, /) -> None:
        """Return at once."""


#: The turn of work that shares the device with nobody.
ALONE: Final[Turn] = _Alone()
