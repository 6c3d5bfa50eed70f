"""The supervisor: starts children in order, starts a crashed one again, stops them all in reverse order.

Owns the process's signals, the restarts and the deadline of the start. Knows neither what the children are nor how
the user is told.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NoReturn, Protocol

from app.standalone.children import Child, ChildError, rotate_log

START_SECONDS = 900.0  # a first start unpacks or downloads models, on slow machines too
MAX_CRASHES_AT_START = 5
FIRST_BACKOFF_SECONDS = 0.2
MAX_BACKOFF_SECONDS = 10.0
STEADY_SECONDS = 30.0  # a child that lived this long starts again at once when it crashes
TICK_SECONDS = 0.1
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class StartFailedError(RuntimeError):
    """The children did not become ready; the text says which and why, and ends with a log if that says more."""


class Reporter(Protocol):
    """Tells the user what happens."""

    def stage(self, text: str) -> None:
        """What the start is waiting for; called several times a second."""

    def event(self, text: str) -> None:
        """Something that happened just now."""

    def ready(self) -> None:
        """The start is over."""


class _StopRequested(Exception):
    """A signal asked for the end."""


@dataclass
class _Watch:
    """One started child and its crashes; times are on the monotonic clock, in seconds."""

    child: Child
    crashes: int = 0
    backoff: float = FIRST_BACKOFF_SECONDS
    started_at: float = 0.0
    restart_at: float | None = None  # None while it runs


class Supervisor:
    """Runs ``children`` until a signal ends them.

    ``missing`` says what the service, its children all started, still lacks to be ready, or ``None`` when it is.
    """

    def __init__(
        self,
        children: Sequence[Child],
        missing: Callable[[], str | None],
        reporter: Reporter,
        start_deadline: float = START_SECONDS,
    ) -> None:
        self._children = children
        self._missing = missing
        self._reporter = reporter
        self._start_deadline = start_deadline
        self._watches: list[_Watch] = []
        self._ready = False
        self._stop_requested = False

    def run(self) -> None:
        """Returns when a signal has ended the children; keeps the signals, so that a second one changes nothing.

        Raises ``StartFailedError`` when they did not become ready; then too none is left running.
        """
        for number in STOP_SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
                signal.signal(number, self._request_stop)
        try:
            self._start()
            while True:
                self._tick()
        except _StopRequested:
            pass
        finally:
            self._stop()

    def _request_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stop_requested = True

    def _start(self) -> None:
        deadline = time.monotonic() + self._start_deadline
        for child in self._children:
            watch = _Watch(child)
            self._watches.append(watch)
            self._start_child(watch)
            self._wait(partial(_silent, child), deadline)
        self._wait(self._missing, deadline)
        self._ready = True
        self._reporter.ready()

    def _wait(self, missing: Callable[[], str | None], deadline: float) -> None:
        """Ticks until nothing is missing. Raises ``StartFailedError`` at the deadline."""
        while (stage := missing()) is not None:
            self._reporter.stage(stage)
            self._tick()
            if time.monotonic() > deadline:
                self._fail(f"not ready after {self._start_deadline:.0f} s ({stage})", self._watches)

    def _tick(self) -> None:
        """Starts again what is due, then sleeps a moment. Raises ``_StopRequested`` after a signal."""
        for watch in self._watches:
            if watch.child.log:
                rotate_log(watch.child.log)
            if watch.restart_at is None and not watch.child.running():
                self._crashed(watch, f"the {watch.child.name} has ended")
            elif watch.restart_at is not None and time.monotonic() >= watch.restart_at:
                self._start_child(watch)
        if not self._stop_requested:
            time.sleep(TICK_SECONDS)
        if self._stop_requested:
            raise _StopRequested

    def _start_child(self, watch: _Watch) -> None:
        watch.started_at = time.monotonic()
        try:
            watch.child.start()
        except (ChildError, OSError) as error:
            if not self._ready:
                raise StartFailedError(f"cannot start the {watch.child.name}: {error}") from error
            self._crashed(watch, f"cannot start the {watch.child.name}: {error}")
        else:
            watch.restart_at = None

    def _crashed(self, watch: _Watch, what: str) -> None:
        """Plans the next start. Raises ``StartFailedError`` for a child that keeps crashing before all are ready."""
        now = time.monotonic()
        watch.crashes += 1
        if not self._ready and watch.crashes == MAX_CRASHES_AT_START:
            self._fail(f"the {watch.child.name} has ended {watch.crashes} times before it was ready", [watch])
        if now - watch.started_at >= STEADY_SECONDS:
            watch.backoff = FIRST_BACKOFF_SECONDS
        log = f" (log: {watch.child.log})" if watch.child.log else ""
        self._reporter.event(f"{what}; starting it again in {watch.backoff:.1f} s{log}")
        watch.restart_at = now + watch.backoff
        watch.backoff = min(2 * watch.backoff, MAX_BACKOFF_SECONDS)

    def _fail(self, what: str, watches: list[_Watch]) -> NoReturn:
        raise StartFailedError("\n".join([what, *(log_tail(log) for watch in watches if (log := watch.child.log))]))

    def _stop(self) -> None:
        """Stops the started children, the last one first."""
        for watch in reversed(self._watches):
            if watch.child.running():
                self._reporter.event(f"stopping the {watch.child.name}")
                watch.child.stop()


def _silent(child: Child) -> str | None:
    return None if child.answers() else f"starting the {child.name}"


def log_tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log under a heading that names it."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 16384))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        text = ""
    return "\n".join([f"--- the end of {log}:", *text.splitlines()[-lines:]])
