"""Whether `auto` is less accurate than its best peer beyond chance: paired bootstrap over test rows and seeds, Holm."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from benchmarks.accuracy.cells import Cell, of_seeds, right_rows
from benchmarks.accuracy.protocol import SEEDS

OURS: Final = "auto"
#: The chance at which one of all comparisons may be called significant by mistake.
LEVEL: Final = 0.05
_RESAMPLES: Final = 20_000
_RESAMPLES_AT_ONCE: Final = 500


@dataclass(frozen=True)
class Comparison:
    """`auto` and its best peer on a data set at k examples a label, over the seeds that both have.

    p: one-sided, that auto is as accurate; 1 where auto leads, None where a cell does not hold its rows.
    """

    name: str
    k: int
    peer: str
    seeds: int
    ours: float
    theirs: float
    p: float | None


def compare(cells: Mapping[str, Cell], name: str, k: int, peers: Iterable[str]) -> Comparison | None:
    """The comparison with the peer that is the most accurate of those that have all seeds of auto, if any has."""
    mine = of_seeds(cells, name, k, OURS)
    seeds = [seed for seed in SEEDS if f"{name}/{k}/{seed}/{OURS}" in cells]
    found = {}
    for peer in peers:
        keys = [f"{name}/{k}/{seed}/{peer}" for seed in seeds]
        if all(key in cells for key in keys):
            found[peer] = [cells[key] for key in keys]
    if not seeds or not found:
        return None
    best = max(found, key=lambda peer: _accuracy(found[peer]))
    ours, theirs = _accuracy(mine), _accuracy(found[best])
    p = 1.0 if ours >= theirs else _paired(mine, found[best])
    return Comparison(name, k, best, len(seeds), ours, theirs, p)


def significant(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons in which auto is significantly below, by Holm's step-down procedure over all of them."""
    ordered = sorted((each for each in comparisons if each.p is not None), key=lambda each: each.p or 0.0)
    found = []
    for place, each in enumerate(ordered):
        if each.p is None or each.p > LEVEL / (len(comparisons) - place):
            break
        found.append(each)
    return found


def bootstrap(differences: Tensor) -> float:
    """Chance that the mean of `differences` [S, N] of S seeds on the same N rows is not below 0.

    Seeds and rows are drawn with replacement, each by itself; one resample is counted as not below. So few seeds show
    less than their whole spread: the chance comes out too small rather than too large.
    """
    generator = torch.Generator().manual_seed(0)
    seeds, rows = differences.shape
    values, at_least = differences.double(), 0
    for _ in range(0, _RESAMPLES, _RESAMPLES_AT_ONCE):
        drawn = torch.randint(seeds, (_RESAMPLES_AT_ONCE, seeds), generator=generator)
        of_rows = torch.randint(rows, (_RESAMPLES_AT_ONCE, rows), generator=generator)
        means = values[drawn].mean(1).gather(1, of_rows).mean(1)
        at_least += int((means > -1e-12).sum())
    return (at_least + 1) / (_RESAMPLES + 1)


def _paired(mine: Sequence[Cell], theirs: Sequence[Cell]) -> float | None:
    if not all("right" in cell for cell in (*mine, *theirs)):
        return None
    ours, peers = (torch.stack([right_rows(cell) for cell in some]).double() for some in (mine, theirs))
    return bootstrap(ours - peers)


def _accuracy(cells: Sequence[Cell]) -> float:
    return statistics.mean(cell["accuracy"] for cell in cells)
