"""Waiting for what happens elsewhere: by looking, with a deadline."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(look: Callable[[], T], seconds: float = 60) -> T:
    """The first true value of ``look``."""
    until = time.monotonic() + seconds
    while not (value := look()):
        assert time.monotonic() < until, "did not happen in time"
        time.sleep(0.02)
    return value
