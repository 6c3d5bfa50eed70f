"""Wrong labels that are planted among the examples: how many `auto` names as suspect, and how many right ones."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from benchmarks.accuracy.cells import Cell, Task
from benchmarks.accuracy.ours import bought, learned_from
from benchmarks.accuracy.protocol import DESIGN, SEEDS, Rows
from worker.models import LanguageModel

#: Examples of each label, and the share of them that gets another label.
SHOTS: Final = 16
_SHARE: Final = 0.05
#: Sets that defaults are chosen on, then the others.
SETS: Final = (*DESIGN, "sst2_sent", "banking77")
METHOD: Final = "planted"


def cell(base: LanguageModel, task: Task, seed: int) -> Cell:
    """What a job with planted wrong labels says of its examples."""
    wrong, shots = _planted(task, seed)
    spoiled = replace(task, shots=shots)
    found = learned_from(base, spoiled, bought(base, spoiled, seed=seed)).found
    named = {one.number for one in found.suspect}
    return {"examples": len(shots), "planted": len(wrong), "named": len(named), "found": len(named & wrong)}


def _planted(task: Task, seed: int) -> tuple[set[int], Rows]:
    """Numbers of the rows that get another label, and all rows."""
    generator = random.Random(f"planted {seed}")
    wrong = set(generator.sample(range(len(task.shots)), round(_SHARE * len(task.shots))))

    def other(label: str) -> str:
        return generator.choice([one for one in task.labels if one != label])

    return wrong, [(text, other(label) if n in wrong else label) for n, (text, label) in enumerate(task.shots)]


def rows(cells: Mapping[str, Cell]) -> list[list[str]]:
    """Rows of the table: a data set, and sums over the seeds that were measured."""
    found = []
    for name in SETS:
        keys = [f"{name}/{SHOTS}/{seed}/{METHOD}" for seed in SEEDS]
        some = [cells[key] for key in keys if key in cells]
        if some:
            figures = [sum(one[figure] for one in some) for figure in ("examples", "planted", "found")]
            mistakes = sum(one["named"] - one["found"] for one in some)
            found.append([name, *map(str, figures), str(mistakes)])
    return found
