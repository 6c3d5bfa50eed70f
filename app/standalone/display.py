"""What ``contextune up`` shows its user while it starts and runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner

HEARTBEAT_SECONDS = 5.0


class Display:
    """Tells the user: a spinner on a terminal, elsewhere a line for each stage and a heartbeat.

    A closed terminal or pipe must not keep the service from stopping: failed writes are ignored, and so is the
    SystemExit that rich makes of a broken pipe (it has by then turned to /dev/null). ``open_page`` is given the
    service's address once, as soon as it is ready.
    """

    def __init__(self, url: str, open_page: Callable[[str], object] | None = None) -> None:
        self._url = url
        self._open_page = open_page
        self._console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
        # Refreshed by stage(): a thread of its own would be a second one at the forks of the children.
        self._spinner = Spinner("dots")
        self._live = Live(self._spinner, console=self._console, auto_refresh=False, transient=True)
        self._began = self._spoke = time.monotonic()
        self._stage = ""

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *_: object) -> None:
        self._rest()

    def stage(self, text: str) -> None:
        """Shows what the start waits for."""
        now = time.monotonic()
        elapsed = f"{text} ({now - self._began:.0f} s)"
        with suppress(OSError, SystemExit):
            if self._console.is_terminal:
                self._live.start()
                self._spinner.update(text=elapsed)
                self._live.refresh()
            elif text != self._stage or now - self._spoke >= HEARTBEAT_SECONDS:
                self._stage, self._spoke = text, now
                self._console.print(elapsed)

    def event(self, text: str) -> None:
        """Prints a line."""
        with suppress(OSError, SystemExit):
            self._console.print(text)

    def ready(self) -> None:
        """Prints the line that everybody waits for, and opens the page if that is wanted."""
        self._rest()
        self.event(f"Contextune is ready on {self._url} - docs at {self._url}/docs - Ctrl-C stops it")
        open_page, self._open_page = self._open_page, None
        if open_page is not None:
            with suppress(OSError):
                open_page(self._url)

    def _rest(self) -> None:
        with suppress(OSError, SystemExit):
            self._live.stop()
