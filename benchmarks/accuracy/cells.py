"""What is measured once: one method on one draw of one data set."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor

from benchmarks.accuracy.protocol import SEEDS, DataSet, Rows
from worker.evaluation.figures import evaluate, held_out_interval

Cell = dict[str, Any]


def seconds_clock() -> Callable[[], float]:
    """A clock in seconds: with one thread the processor's, so that other work on the machine costs no trial."""
    return time.process_time if torch.get_num_threads() == 1 else time.perf_counter


def of_seeds(cells: Mapping[str, Cell], name: str, k: int, method: str) -> list[Cell]:
    """The cells of a method on a data set at k examples a label, as far as its seeds were measured."""
    keys = [f"{name}/{k}/{seed}/{method}" for seed in SEEDS]
    return [cells[key] for key in keys if key in cells]


def packed(rows: Tensor) -> str:
    """Booleans [N] as hexadecimal digits of four rows each, the first row first."""
    bits = "".join("01"[row] for row in rows.int().tolist())
    return "".join(f"{int(bits[start : start + 4].ljust(4, '0'), 2):x}" for start in range(0, len(bits), 4))


def right_rows(cell: Cell) -> Tensor:
    """[N] whether each test row is classified right; raises KeyError for a cell that does not hold it."""
    bits = "".join(f"{int(digit, 16):04b}" for digit in cell["right"])
    return torch.tensor([bit == "1" for bit in bits[: cell["n"]]])


@dataclass(frozen=True)
class Task:
    """Drawn examples and test rows, (text, label) each.

    unlabelled: texts of other training rows. calibration_texts: those of them that a method is given.
    """

    labels: tuple[str, ...]
    shots: Rows
    test: Rows
    unlabelled: tuple[str, ...] = ()
    calibration_texts: tuple[str, ...] = ()

    @classmethod
    def draw(cls, data: DataSet, k: int, seed: int) -> Task:
        """The task of the protocol."""
        drawn = data.draw(k, seed)
        return cls(data.labels, drawn, data.test, data.unlabelled(drawn))

    @property
    def truth(self) -> Tensor:
        """[N] numbers of the test rows' labels."""
        return torch.tensor([self.labels.index(label) for _, label in self.test])


_FIGURES: Final = ("accuracy", "macro_f1", "nll", "ece", "chance_ece", "brier", "n")


@dataclass(frozen=True)
class Outcome:
    """Probabilities [N, L] for the test rows, and the seconds that it took to learn and to classify all of them."""

    probabilities: Tensor
    tuning_seconds: float
    classifying_seconds: float
    detail: dict[str, Any] = field(default_factory=dict)

    def cell(self, truth: Tensor) -> Cell:
        """Its figures, the mean confidence, and which of the test rows are classified right."""
        score = evaluate(self.probabilities, truth)
        figures = {name: getattr(score, name) for name in _FIGURES}
        figures["confidence"] = self.probabilities.amax(1).mean().item()
        seconds = {"tuning_seconds": self.tuning_seconds, "classifying_seconds": self.classifying_seconds}
        right = packed(self.probabilities.argmax(1) == truth)
        return {**figures, **seconds, **self.detail, **self._coverage(score.accuracy), "right": right}

    def _coverage(self, accuracy: float) -> dict[str, Any]:
        """Whether the accuracy lies in the interval that the report gave."""
        if "held_out" not in self.detail:
            return {}
        n = self.detail["held_out"]
        low, high = held_out_interval(self.detail["held_out_right"] / n, n)
        return {"reported": [low, high], "covered": low <= accuracy <= high}
