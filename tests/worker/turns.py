"""Turns that tests watch."""

from dataclasses import dataclass, field


class TurnEnded(Exception):
    """Raised by an offer."""


@dataclass
class Watched:
    """Notes what is done at each offer, and ends the work at offer `last`, counted from 1, if there is one."""

    last: int | None = None
    offers: list[float | None] = field(default_factory=list)

    def offer(self, done: float | None = None, /) -> None:
        self.offers.append(done)
        if len(self.offers) == self.last:
            raise TurnEnded
