"""A user who classifies ten times a second, all the time: how long that takes, and whether the answers are right."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any, Final

import httpx

_PAUSE_SECONDS: Final = 0.1
RIGHT: Final = "right"


@dataclass(frozen=True)
class Look:
    """When a request was sent, how long it took, and `RIGHT`, ``wrong``, or the code of its refusal."""

    at: float
    seconds: float
    outcome: str


class Probe:
    """Sends ``body`` to ``POST /classify`` from `start` until `stop`; ``right`` says whether an answer is."""

    def __init__(self, url: str, body: dict[str, Any], right: Callable[[httpx.Response], bool]) -> None:
        self.looks: list[Look] = []
        self._url, self._body, self._right = url, body, right
        self._over = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def between(self, start: float, end: float) -> list[Look]:
        """The requests that were sent in this time."""
        return [look for look in self.looks if start <= look.at < end]

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30, trust_env=False) as http:
            while not self._over.is_set():
                at, outcome = time.monotonic(), RIGHT
                try:
                    response = http.post("/classify", json=self._body)
                    if not response.is_success:
                        outcome = str(response.json()["code"])
                    elif not self._right(response):
                        outcome = "wrong"
                except httpx.TransportError as error:
                    outcome = type(error).__name__
                self.looks.append(Look(at, time.monotonic() - at, outcome))
                time.sleep(_PAUSE_SECONDS)


def summary(looks: Sequence[Look]) -> dict[str, Any]:
    """Median, 95th percentile and most seconds of the right answers, and how often there was which outcome."""
    outcomes = Counter(look.outcome for look in looks)
    seconds = sorted(look.seconds for look in looks if look.outcome == RIGHT)
    if not seconds:
        return {"outcomes": dict(outcomes)}
    p95 = seconds[min(len(seconds) - 1, len(seconds) * 95 // 100)]
    return {"median": statistics.median(seconds), "p95": p95, "most": seconds[-1], "outcomes": dict(outcomes)}
