"""Which workers hold which plain contexts, so that their examples need not travel with every request."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

#: Plain contexts that are remembered; the examples of others are sent again.
_MOST: Final = 1024


class Holders:
    """Workers that have answered for each of the plain contexts that were used lately.

    A worker may have let go of one since: it then says so, and `forget` follows.
    """

    def __init__(self) -> None:
        self._workers: OrderedDict[str, set[str]] = OrderedDict()

    def all_hold(self, address: str, live: Iterable[str]) -> bool:
        """Whether each of the ``live`` workers has answered for a plain context."""
        holding = self._workers.get(address)
        return holding is not None and set(live) <= holding

    def note(self, address: str, worker: str) -> None:
        """A worker has answered for a plain context."""
        self._workers.setdefault(address, set()).add(worker)
        self._workers.move_to_end(address)
        if len(self._workers) > _MOST:
            self._workers.popitem(last=False)

    def forget(self, address: str) -> None:
        """A worker did not hold a plain context."""
        self._workers.pop(address, None)
