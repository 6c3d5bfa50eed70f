"""The pace of a search: how much of its time is left, and how long work takes by the work that is done."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

#: Shares of the budget: for sentence vectors and fits to them at most, and for all but figures.
ENCODER_SHARE: Final = 0.5
TRIALS_SHARE: Final = 0.85


@dataclass
class Pace:
    """Seconds of a search and its work, in floating-point operations.

    clock: the seconds that it has taken. max_seconds: its budget, None for no bound. done: all work so far. told_steps:
    steps of tuning of this process. Steps, which are slower than reading, have a rate of their own once one is done.
    """

    clock: Callable[[], float]
    max_seconds: float | None
    done: float = 0.0
    told_steps: int = 0
    _begun: float = 0.0
    _steps: float = 0.0
    _steps_seconds: float = 0.0
    _quickest: float = math.inf

    def tensor(self) -> Tensor:
        """[5] float64: what `load` needs."""
        rates = self._steps, self._steps_seconds, self._quickest
        return torch.tensor([self.done, self._begun, *rates], dtype=torch.float64)

    def load(self, stored: Tensor) -> None:
        """Go on from `tensor`; raises ValueError for another one."""
        self.done, self._begun, self._steps, self._steps_seconds, self._quickest = stored.tolist()

    def begin(self) -> None:
        """Count from now if nothing is done yet: what passed before says nothing of the rate of the work."""
        if not self.done:
            self._begun = self.clock()

    def note(self, work: float, seconds: float | None = None) -> None:
        """Note work that is done; if it was a step of tuning, how long it took."""
        self.done += work
        if seconds is not None:
            self.told_steps += 1
            self._steps += work
            self._steps_seconds += seconds
            self._quickest = min(self._quickest, seconds / work)

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
