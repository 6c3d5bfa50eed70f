"""The pace of a search: how much of its time is left, and how long work takes by the work that is done."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

#: Shares of the budget: for sentence vectors at most, and for all but what follows the trials (fits and figures).
ENCODER_SHARE: Final = 0.5
TRIALS_SHARE: Final = 0.85


@dataclass
class Pace:
    """Seconds of a search and its work, in floating-point operations.

    clock: the seconds that it has taken. max_seconds: its budget, None for no bound. done: all work so far, that before
    a restart too. Steps of tuning, which run slower than reading, have a rate of their own once one is done.
    """

    clock: Callable[[], float]
    max_seconds: float | None
    done: float = 0.0

    def __post_init__(self) -> None:
        self._begun = 0.0
        self._steps, self._steps_seconds, self._quickest = 0.0, 0.0, math.inf

    def begin(self) -> None:
        """Count from now if nothing is done yet: what passed before says nothing of the rate of the work."""
        if not self.done:
            self._begun = self.clock()

    def note(self, work: float, step_seconds: float | None = None) -> None:
        """Note work that is done; if it was a step of tuning, how long it took."""
        self.done += work
        if step_seconds is not None:
            self._steps += work
            self._steps_seconds += step_seconds
            self._quickest = min(self._quickest, step_seconds / work)

    def left(self, share: float) -> float:
        """Seconds left of a share of the budget."""
        return math.inf if self.max_seconds is None else share * self.max_seconds - self.clock()

    def seconds(self, work: float) -> float:
        """What work that is no step of tuning takes, at its rate so far."""
        taken = self.clock() - self._begun - self._steps_seconds
        return work * taken / max(1.0, self.done - self._steps)

    def step_seconds(self, work: float) -> float:
        """What steps of tuning take: as the quickest that is done, else as any work."""
        return work * self._quickest if self._steps else self.seconds(work)
