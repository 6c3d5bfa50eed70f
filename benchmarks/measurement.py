"""Timing of contenders that take turns, so that whatever else the machine does falls on all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

Contender = Callable[[], object]


def interleaved(contenders: Mapping[str, Contender], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contender in each round; every second round goes in the opposite order."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    for _ in range(rounds):
        for name in order:
            seconds[name].append(timed(contenders[name]))
        order.reverse()
    return seconds


def timed(work: Contender) -> float:
    """Seconds that one call takes, with what it has given a GPU to do."""
    _wait_for_gpu()
    started = time.perf_counter()
    work()
    _wait_for_gpu()
    return time.perf_counter() - started


def _wait_for_gpu() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, least and greatest of some values, and how many they are."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> dict[str, Any]:
    """Spread of the ratios of values that were measured in the same round."""
    return spread([above / below for above, below in zip(numerators, denominators, strict=True)])


def fastest(candidates: Sequence[int], seconds_per_item: Callable[[int], float]) -> int:
    """The size with the least time for an item, trying greater ones until they no longer help."""
    best, best_seconds = candidates[0], seconds_per_item(candidates[0])
    for candidate in candidates[1:]:
        seconds = seconds_per_item(candidate)
        if seconds > best_seconds * 1.1:
            break
        if seconds < best_seconds:
            best, best_seconds = candidate, seconds
    return best
