"""Child processes of ``contextune up``: how one is started, logged and ended.

Knows neither what the children do nor when they are started again.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

MAX_LOG_BYTES = 10 * 1024 * 1024
KILL_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class ChildError(RuntimeError):
    """A child cannot be started; the text says what to do."""


class Child(Protocol):
    """What the supervisor starts, watches and stops."""

    name: str

    @property
    def log(self) -> Path | None:
        """Where its output goes, or None for that of this process."""

    def start(self) -> None:
        """Starts it without waiting. Raises ``ChildError`` or ``OSError``."""

    def running(self) -> bool:
        """Whether its process lives."""

    def answers(self) -> bool:
        """Whether those that need it may be started."""

    def stop(self) -> None:
        """Ends it; returns when it has ended."""


class ChildProcess:
    """A command in a session of its own, with its output in ``log``, or in this process's if that is None.

    ``deadline`` is the seconds that SIGTERM gives it.

    On Linux the kernel kills it when the process that started it dies: a supervisor killed by force leaves none.
    """

    def __init__(
        self, name: str, command: Sequence[str], log: Path | None, environment: Mapping[str, str], deadline: float
    ) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._environment = dict(environment)
        self._deadline = deadline
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the command. Raises ``OSError``."""
        log = open_log(self.log) if self.log else None
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the command is the caller's own
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT if self.log else None,
                start_new_session=True,
                preexec_fn=_die_with_parent(),  # noqa: PLW1509 - `contextune up` has one thread
            )
        finally:
            if log is not None:
                os.close(log)

    def running(self) -> bool:
        """Whether the command has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def answers(self) -> bool:
        """Nobody has to wait for a command."""
        return True

    def stop(self) -> None:
        """SIGTERM, then SIGKILL after the deadline."""
        if self._process is not None:
            end_process(self._process.pid, self.running, self._deadline)


def open_log(path: Path) -> int:
    """Opens a log for appending, rotated first if it must be, and returns its descriptor."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    rotate_log(path)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def rotate_log(path: Path, most: int = MAX_LOG_BYTES) -> None:
    """Copies a log over ``most`` bytes to ``<name>.1`` and empties it, while its process goes on writing.

    Where the disk has no room for the copy, it is emptied all the same.
    """
    with suppress(OSError):
        if path.stat().st_size <= most:
            return
        older = path.with_name(f"{path.name}.1")
        with suppress(OSError):
            older.unlink(missing_ok=True)
            shutil.copyfile(path, older)
            older.chmod(0o600)
        os.truncate(path, 0)


def end_process(pid: int, running: Callable[[], bool], deadline: float) -> None:
    """SIGTERM, and after ``deadline`` seconds SIGKILL to the group. The process must lead a session of its own."""
    for send, number, seconds in ((os.kill, signal.SIGTERM, deadline), (os.killpg, signal.SIGKILL, KILL_SECONDS)):
        if not running():
            return
        with suppress(ProcessLookupError):
            send(pid, number)
        until = time.monotonic() + seconds
        while running() and time.monotonic() < until:
            time.sleep(0.02)


def _die_with_parent() -> Callable[[], None] | None:
    """What a child runs before its command so that it is killed when this process dies; ``None`` where there is none.

    Looked up before the fork: between fork and exec there is one system call and no import.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def bind() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)

    return bind
