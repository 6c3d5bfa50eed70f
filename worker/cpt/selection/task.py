"""What all trials of a search share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.cpt.encoding.shots import Shots
from worker.cpt.selection.prompts import PromptPlan
from worker.cpt.tuning.tuner import TuningSettings


@dataclass(frozen=True)
class Task:
    """What all trials of a search share. `bounds` are those of a `Tuner`.

    config: the settings of a CPTConfig. calibration: queries of texts without a label. reads: whether examples are read
    under prompts that serve, and not only those that a prompt does not see. states: whether their states are kept.
    """

    model: Any
    shots: Shots
    tuning: TuningSettings
    config: Mapping[str, Any]
    calibration: tuple[tuple[int, ...], ...]
    reads: bool
    states: bool
    bounds: Mapping[str, Any]

    def batch(self, plan: PromptPlan) -> int:
        """Training examples of a step."""
        return min(self.tuning.batch_size or len(plan.training), len(plan.training))
