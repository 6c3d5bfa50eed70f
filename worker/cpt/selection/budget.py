"""What fits in the time that is left of a search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from worker.cpt.encoding.shots import Shots
from worker.cpt.selection.costs import Costs
from worker.cpt.selection.pace import TRIALS_SHARE, Pace
from worker.cpt.selection.trial_run import FEWEST_PROMPTS
from worker.cpt.selection.trials import Trial

if TYPE_CHECKING:
    from worker.cpt.selection.search import SearchSettings


@dataclass(frozen=True)
class Budget:
    """cost: floating-point operations of a trial. runs: prompts that are tuned in it.

    fits: seconds that fits to what is read in a trial take; fits_so_far: those to all that is done.
    """

    pace: Pace
    cost: Callable[[Trial], float]
    runs: Callable[[Trial], int]
    fits: Callable[[Trial], float]
    fits_so_far: Callable[[], float]

    def left(self, fits: float) -> float:
        """Seconds left for trials before fits that take so many, and those to all that is done."""
        return self.pace.left(TRIALS_SHARE) - self.fits_so_far() - fits

    def bears(self, trial: Trial, done: int = 0) -> bool:
        """Whether a trial, of whose first prompt so many steps are done, fits in what is left, at the rate so far."""
        reading, one = (self.cost(replace(trial, steps=steps)) for steps in (0, 1))
        runs = self.runs(trial)
        steps = (one - reading) / runs * (runs * trial.steps - done)
        return self.pace.seconds(reading) + self.pace.step_seconds(steps) <= self.left(self.fits(trial))

    def fitting(self, trial: Trial, done: int = 0, most: int | None = None) -> Trial | None:
        """The trial with as many of its steps as there is time for with the fewest prompts; None for too few.

        done: steps of its first prompt that are done. most: steps that it may have by now.
        """
        fewest = replace(trial, prompts=min(FEWEST_PROMPTS, trial.prompts))
        most = trial.steps if most is None else most
        for steps in fewer_steps(trial.steps):
            if done <= steps <= most and self.bears(replace(fewest, steps=steps), done):
                return replace(trial, steps=steps)
        return None


def fewer_steps(steps: int) -> range:
    """What a trial of so many steps may be cut to where time is short, the most first: half of them at least."""
    return range(steps, (steps + 1) // 2 - 1, -1)


def trial_cost(costs: Costs, settings: SearchSettings, shots: Shots, trial: Trial) -> float:
    """Floating-point operations of a trial of a search."""
    inside = costs.inside(trial.context_examples, settings.most_tokens) if settings.prompts else shots.context
    batch = costs.batch(settings.prompts, inside, settings.tuning.batch_size)
    read = trial.examples if settings.calibrated or settings.heads else 0
    return settings.runs(trial) * costs.prompt(trial.steps, inside, batch, read, trial.scored(settings.heads))
