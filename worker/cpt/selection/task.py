"""What all trials of a search share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from worker.cpt.encoding.shots import Shots
from worker.cpt.selection.prompts import PromptPlan
from worker.cpt.tuning.tuner import TuningSettings

#: Texts without a label that are read under a prompt: 64 changed accuracy and NLL as 256 did (trec, agnews, 2 and 4
#: examples a label), and four times as many left no time for tuning.
_CALIBRATION_TEXTS: Final = 64


def calibration_sample(texts: Sequence[str]) -> tuple[str, ...]:
    """Those of the texts without a label that are read: all, or as many as count, evenly spread over all."""
    count = min(len(texts), _CALIBRATION_TEXTS)
    return tuple(texts[place * len(texts) // count] for place in range(count))


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
