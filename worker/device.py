"""The device and who may use it: classification goes before tuning, which goes on in between, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition
from typing import Final

#: Tuning that has waited this long gets its turn even while queries wait (seconds), so that a job always moves.
_PATIENCE: Final = 1.0


class DeviceGate:
    """Lets one thread at a time compute. Safe to use from any thread."""

    def __init__(self) -> None:
        self._condition = Condition()
        self._busy = False
        self._queries_waiting = 0
        self._tuning_overdue = 0

    @contextmanager
    def classifying(self) -> Iterator[None]:
        """Hold the device for one batch of queries; waits for a chunk of tuning at most."""
        with self._condition:
            self._queries_waiting += 1
            self._condition.wait_for(lambda: not self._busy and not self._tuning_overdue)
            self._queries_waiting -= 1
            self._busy = True
        try:
            yield
        finally:
            self._release()

    @contextmanager
    def tuning(self) -> Iterator[None]:
        """Hold the device for tuning; see `let_queries_pass`."""
        self._acquire_for_tuning()
        try:
            yield
        finally:
            self._release()

    def let_queries_pass(self) -> None:
        """Within `tuning`, between two chunks: let waiting queries have the device, then go on."""
        if self._queries_waiting:
            self._release()
            self._acquire_for_tuning()

    def _acquire_for_tuning(self) -> None:
        with self._condition:
            self._condition.wait_for(lambda: not self._busy and not self._queries_waiting, _PATIENCE)
            self._tuning_overdue += 1
            self._condition.wait_for(lambda: not self._busy)
            self._tuning_overdue -= 1
            self._busy = True

    def _release(self) -> None:
        with self._condition:
            self._busy = False
            self._condition.notify_all()
