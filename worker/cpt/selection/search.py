"""A search: from labelled texts to a classifier, trial after trial, within a budget.

A trial tunes prompts and reads the examples under each. Trials stand in an order of value; those that the budget does
not bear are dropped, but for the first, which may be cut short. What serves is chosen at the end, on examples held out
from what predicts them. With the reference's prompt and nothing to choose, mix or calibrate, it is CPT as the paper has
it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor

from worker.cpt.encoding.shots import Shots
from worker.cpt.model.sentence_encoder import SentenceEncoder
from worker.cpt.selection.budget import Budget, trial_cost
from worker.cpt.selection.costs import Costs
from worker.cpt.selection.encoding import Encoding
from worker.cpt.selection.fits import Fits
from worker.cpt.selection.pace import ENCODER_SHARE, Pace
from worker.cpt.selection.prompts import PromptPlan, cross_fitted_prompts, whole_prompts
from worker.cpt.selection.result import SearchResult, conclude
from worker.cpt.selection.task import Task, calibration_sample
from worker.cpt.selection.trial_run import FEWEST_PROMPTS, TrialRun
from worker.cpt.selection.trials import HeldOutScores, Status, StepFigures, Trial
from worker.cpt.tuning.tuner import CHUNK_TOKENS, TuningSettings
from worker.cpt.turn import ALONE, Turn

#: Steps of tuning of a process whose quickest tells how long others take: the first is slow.
_STEPS_TOLD: Final = 2
_CODES: Final[tuple[Status | None, ...]] = (None, "done", "dropped")


@dataclass(frozen=True)
class SearchSettings:
    """How to search; each trial says how many steps are done in place of those of `tuning`.

    config: the settings of a CPTConfig. prompts: cross-fitted prompts, of which a trial may take fewer, 0 for the
    reference's one of all examples. folds: held-out folds of the reference's prompt. most_tokens: of a cross-fitted
    prompt.
    calibrated, heads: whether biases and mixtures are fitted, and heads on states. preferred: number of the trial that
    serves unless held-out examples speak against it; None is the last that was done. max_seconds: None for no bound.
    encoder_steps: steps of tuning of the encoder, 0 for none.
    """

    tuning: TuningSettings
    config: Mapping[str, Any]
    trials: tuple[Trial, ...]
    prompts: int = 0
    folds: int = 0
    most_tokens: int = 1024
    calibrated: bool = False
    heads: bool = False
    preferred: int | None = None
    max_seconds: float | None = None
    encoder_steps: int = 0

    def runs(self, trial: Trial) -> int:
        """Prompts that are tuned in a trial, at most."""
        return min(self.prompts, trial.prompts) if self.prompts else self.folds + 1


class Search:
    """Searches on `shots` for a transformers model, step by step; goes on from a `state` as if unbroken.

    `encoders` give sentence vectors, the first of them unless held-out examples speak for another. `clock` gives the
    seconds that the search has taken. For the rest see `Tuner`, whose errors it raises.
    """

    def __init__(
        self,
        model: Any,
        encoders: Sequence[SentenceEncoder],
        shots: Shots,
        settings: SearchSettings,
        *,
        calibration_texts: Sequence[str] = (),
        clock: Callable[[], float] = lambda: 0.0,
        chunk_tokens: int = CHUNK_TOKENS,
        memory: int | None = None,
    ) -> None:
        texts = calibration_sample(calibration_texts)
        self._task = Task(
            model=model,
            shots=shots,
            tuning=settings.tuning,
            config=settings.config,
            calibration=tuple(map(shots.cut_query, texts)),
            reads=settings.calibrated or settings.heads,
            states=settings.heads,
            bounds={"chunk_tokens": chunk_tokens, "memory": memory},
        )
        self._settings = settings
        self._pace = Pace(clock, settings.max_seconds)
        self.encoding = Encoding(encoders, shots, settings.encoder_steps, settings.tuning.seed)
        self._costs = Costs.of(model, self.encoding.encoders, shots, len(texts))
        self._fits = Fits.of(model, self.encoding.encoders, len(shots.labels), settings.heads)
        cost = partial(trial_cost, self._costs, settings, shots)
        self._budget = Budget(self._pace, cost, settings.runs, self._fits_to_trial, self._fits_so_far)
        self._runs: list[TrialRun | None] = []
        self._statuses: list[Status] = []
        self._trials = list(settings.trials)

    @property
    def total_steps(self) -> int:
        """Steps of tuning of all trials that are not dropped."""
        statuses = [*self._statuses, *[None] * len(self._trials)]
        pairs = zip(self._trials, statuses, strict=False)
        return sum(trial.steps * self._settings.runs(trial) for trial, status in pairs if status != "dropped")

    @property
    def fraction(self) -> float:
        """The share of the work that is done, by its cost."""
        if self.finished:
            return 1.0
        pairs = enumerate(self._trials)
        dropped = {number for number, status in enumerate(self._statuses) if status == "dropped"}
        total = self.encoding.cost(self._costs)
        total += sum(self._budget.cost(trial) for number, trial in pairs if number not in dropped)
        return min(0.99, self._pace.done / max(total, 1.0))

    @property
    def trained_tokens(self) -> int:
        """Tokens, of prompts and training examples, that the steps done so far have computed."""
        return sum(run.trained_tokens for run in self._runs if run is not None)

    @property
    def finished(self) -> bool:
        """Whether every trial is done or dropped."""
        return len(self._statuses) == len(self._trials)

    @property
    def statuses(self) -> tuple[Status, ...]:
        """What became of the trials so far, in their order."""
        return tuple(self._statuses)

    def last_step(self) -> StepFigures | None:
        """The last step of tuning of the trial in turn, if there was any in this process."""
        run = next((run for run in reversed(self._runs) if run is not None), None)
        return run.last_step() if run is not None else None

    def held_out(self, trial: int) -> HeldOutScores | None:
        """How the prompts of a trial that was done predict what they do not see; None where nothing was held out."""
        run = self._runs[trial]
        return run.held_out() if run is not None else None

    def step(self, turn: Turn = ALONE) -> float | None:
        """Do the next piece of work and return its loss, if it was a step of tuning.

        The turn is offered between pieces of work; what its offer raises leaves the search unfit to go on: begin again
        from the last `state`.
        """
        pace = self._pace
        pace.begin()
        if not self.encoding.complete:
            left = pace.left(ENCODER_SHARE) - self._fits.on_encoding(self.encoding, len(self._task.shots))
            pace.note(self.encoding.step(self._costs, left, pace.seconds, turn))
            return None
        run, began = self._current(), pace.clock()
        loss, cost = run.step(self._costs, turn)
        pace.note(cost, None if loss is None else pace.clock() - began)
        self._settle(run)
        return loss

    def result(self, turn: Turn = ALONE) -> SearchResult:
        """What was found, once `finished`."""
        return conclude(self._settings, self._task, self.encoding, self._runs, self._statuses, turn)

    def state(self) -> dict[str, Tensor]:
        """What `load_state` needs to go on as if unbroken."""
        found = self.encoding.tensors()
        found["statuses"] = torch.tensor([_CODES.index(status) for status in self._statuses], dtype=torch.int64)
        found["steps"] = torch.tensor([trial.steps for trial in self._trials], dtype=torch.int64)
        found["pace"] = self._pace.tensor()
        for number, run in enumerate(self._runs):
            if run is not None:
                found |= run.tensors(f"trials.{number}")
        return found

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a `state`; raises ValueError, and changes nothing, if it is not one of this search's."""
        before, pace, vectors = (self._statuses, self._trials, self._runs), self._pace.tensor(), self.encoding.tensors()
        try:
            self._load(state)
        except torch.OutOfMemoryError:
            raise
        except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
            self._statuses, self._trials, self._runs = before
            self._pace.load(pace)
            self.encoding.load(vectors)
            raise ValueError("The state does not belong to this search.") from error

    def _load(self, state: Mapping[str, Tensor]) -> None:
        self.encoding.load(state)
        statuses = [_CODES[int(code)] for code in state["statuses"]]
        pairs = zip(self._settings.trials, state["steps"].tolist(), strict=True)
        self._trials = [replace(trial, steps=min(trial.steps, steps)) for trial, steps in pairs]
        if len(statuses) > len(self._trials) or None in statuses:
            raise ValueError("unknown trials")
        self._statuses = [status for status in statuses if status is not None]
        self._pace.load(state["pace"])
        self._runs = []
        for number in range(len(self._trials)):
            begun = any(name.startswith(f"trials.{number}.") for name in state)
            if not begun and number >= len(statuses):
                break
            run = self._make_run(number) if begun else None
            if run is not None:
                run.load(f"trials.{number}", state)
            done = number < len(statuses) and statuses[number] == "done"
            if done and run is not None:
                run.shorten(1)
            if done and (run is None or not run.complete):
                raise ValueError("missing prompts")
            self._runs.append(run)

    def _current(self) -> TrialRun:
        number = len(self._statuses)
        if len(self._runs) == number:
            self._runs.append(self._make_run(number))
        run = self._runs[number]
        assert run is not None  # noqa: S101 - only those of dropped trials are none
        return run

    def _make_run(self, number: int) -> TrialRun:
        trial = self._trials[number]
        return TrialRun(self._task, trial, self._plans(trial))

    def _plans(self, trial: Trial) -> list[PromptPlan]:
        settings, shots = self._settings, self._task.shots
        if not settings.prompts:
            return whole_prompts(shots, settings.folds, settings.tuning.seed)
        frozen = self.encoding.frozen
        vectors = frozen.of_examples()[0] if frozen.examples else None
        most, seed = settings.most_tokens, settings.tuning.seed
        plans = cross_fitted_prompts(shots, settings.prompts, trial.context_examples, most, vectors, seed)
        return plans[: trial.prompts]

    def _settle(self, run: TrialRun) -> None:
        """End the trial in turn where it is complete or too late; then drop those that there is no time for.

        A trial that there is not the time for to its end serves with the prompts that are closed.
        """
        first, late = not self._statuses, self._budget.left(self._fits.on_run(run)) < 0
        if first and late:
            run.cut()
            run.shorten(1)
        elif not first:
            if late or (run.between_prompts and not self._budget.bears(replace(run.trial, prompts=1))):
                run.shorten(FEWEST_PROMPTS)
            if not run.complete and (late or not self._keeps_up(run)):
                self._runs[-1] = None
                self._statuses.append("dropped")
        if run.complete:
            run.end()
            self._statuses.append("done")
        while 0 < len(self._statuses) < len(self._trials) and len(self._runs) == len(self._statuses):
            fitting = self._budget.fitting(self._trials[len(self._statuses)])
            if fitting is not None:
                self._trials[len(self._statuses)] = fitting
                break
            self._runs.append(None)
            self._statuses.append("dropped")

    def _fits_to_trial(self, trial: Trial) -> float:
        """Seconds that fits to all that a trial is to read take."""
        return self._fits.on_states(min(trial.examples, len(self._task.shots)), self._settings.runs(trial))

    def _fits_so_far(self) -> float:
        """Seconds that fits to the vectors, and to what the trials that are done have read, take."""
        done = [run for run, status in zip(self._runs, self._statuses, strict=False) if run and status == "done"]
        return self._fits.on_encoding(self.encoding, len(self._task.shots)) + sum(map(self._fits.on_run, done))

    def _keeps_up(self, run: TrialRun) -> bool:
        """Whether there is time for a trial whose steps take as long as those done; it takes fewer where that helps.

        Where the learning rate falls, each step hangs on how many there are, and there stay as many.
        """
        number, done = len(self._statuses), run.first_steps
        if not done or self._pace.told_steps < _STEPS_TOLD or done == run.trial.steps:
            return True
        fitting = self._budget.fitting(self._settings.trials[number], done, run.trial.steps)
        if fitting is None or (self._settings.tuning.cosine and fitting != run.trial):
            return False
        self._trials[number] = run.trial = fitting
        return True
