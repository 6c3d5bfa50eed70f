"""Prices: what a search takes in seconds on this device. Knows the matrix rate, not the defaults."""

from __future__ import annotations

import math
from typing import Any, Final

from app.contract.tuning import TrialSettings
from worker.cpt.selection.budget import fewer_steps
from worker.cpt.selection.choice import FEW_LABELS
from worker.cpt.selection.costs import Costs
from worker.cpt.selection.encoding import taking_part
from worker.cpt.selection.fits import Fits
from worker.cpt.selection.pace import ENCODER_SHARE, TRIALS_SHARE
from worker.cpt.selection.prompts import foldable, prompt_tokens
from worker.cpt.selection.task import calibration_sample
from worker.cpt.selection.trial_run import FEWEST_PROMPTS
from worker.cpt.selection.trials import Trial
from worker.jobs.encoding import Encoded
from worker.models import LanguageModel

#: Share of the device's matrix rate that tuning and reading reach, for the estimate.
_EFFICIENCY: Final = 0.5
#: The same for the encoder, whose passes are long.
_ENCODER_EFFICIENCY: Final = 0.75
#: Folds that are held out, one after the other, from the reference's prompt where it is measured.
REFERENCE_FOLDS: Final = 3


class Pricing:
    """Seconds for what is done with an encoded spec under hyperparameters that are resolved but for their trials."""

    def __init__(self, base: LanguageModel, encoded: Encoded, values: dict[str, Any]) -> None:
        texts = len(calibration_sample(encoded.calibration_texts)) if values["calibration"] else 0
        encoders = taking_part(base.encoders if values["encoder"] else (), len(encoded.shots))
        self._costs = Costs.of(base.model, encoders, encoded.shots, texts)
        self._fits = Fits.of(base.model, encoders, len(encoded.shots.labels), values["head"])
        self._encoders = len(encoders)
        self._rate = base.flops * _EFFICIENCY
        self._values = values
        self._shots = encoded.shots
        self._texts = len(encoded.shots) + len(encoded.shots.label_texts)
        self._validation = len(encoded.validation_texts)
        self._most_tokens = prompt_tokens(encoded.shots, base.context_length)

    def first_encoder(self) -> float:
        """Seconds for the sentence vectors of all examples by the first encoder, and for tuning it."""
        return self._encoding(self._costs.embedding(self._texts)) + self._tuning()

    def _tuning(self) -> float:
        steps = self._values["encoder_steps"]
        if not steps:
            return 0.0
        return self._encoding(self._costs.encoder_tuning(steps)) + self._fits.on_tuned(len(self._shots))

    def encoding(self) -> float:
        """Seconds for the sentence vectors of all examples by each encoder, fits to them, and tuning of the first."""
        return self._vectors() + self._tuning()

    def likely_encoding_within(self, seconds: float | None) -> float:
        """What `encoding_within` mostly is: of many labels another encoder often makes tuning the first needless."""
        needless = self._encoders > 1 and len(self._shots.labels) > FEW_LABELS
        return _within(self._vectors() if needless else self.encoding(), seconds)

    def _vectors(self) -> float:
        embedding = sum(self._costs.embedding(self._texts, each) for each in range(self._encoders))
        return self._encoding(embedding) + self._fits.on_vectors(len(self._shots), self._encoders)

    def _encoding(self, cost: float) -> float:
        return cost / (self._rate * _ENCODER_EFFICIENCY / _EFFICIENCY)

    def encoding_within(self, seconds: float | None) -> float:
        """The same in a search with this bound, which ends them with its share of it."""
        return _within(self.encoding(), seconds)

    def trial(self, trial: TrialSettings) -> float:
        """Seconds for a trial, and for the fits to what is read in it."""
        values = self._values
        automatic = values["method"] == "auto"
        inside = self._costs.inside(trial.context_examples, self._most_tokens) if automatic else self._shots.context
        batch = self._costs.batch(self._runs(trial) if automatic else 0, inside, values["batch_size"])
        read = trial.examples if values["calibration"] or values["head"] else 0
        scored = Trial(**trial.model_dump()).scored(values["head"])
        prompt = self._costs.prompt(trial.steps, inside, batch, read, scored)
        prompts = self._runs(trial)
        return prompts * prompt / self._rate + self._fits.on_states(min(read, len(self._shots)), prompts)

    def searching(self, trials: tuple[TrialSettings, ...], max_seconds: float | None) -> float:
        """Seconds for all trials within a bound: where it is too short for the first one, that is cut."""
        needed = self.encoding_within(max_seconds) + sum(map(self.trial, trials))
        return needed if max_seconds is None else min(needed, max_seconds)

    def affordable(self, trials: tuple[TrialSettings, ...], max_seconds: float | None) -> tuple[TrialSettings, ...]:
        """The trials that would be done within a bound: the first, and what fits of each in what the others leave."""
        left = math.inf if max_seconds is None else TRIALS_SHARE * max_seconds - self.encoding_within(max_seconds)
        found: list[TrialSettings] = []
        for trial in trials:
            some = self._fitting(trial, left) if found else trial
            if some is not None:
                found.append(some)
                left -= self.trial(some)
        return tuple(found)

    def _fitting(self, trial: TrialSettings, left: float) -> TrialSettings | None:
        """A trial with as many of its steps, and then of its prompts, as fit in so many seconds; None for too few."""
        for steps in fewer_steps(trial.steps):
            for prompts in range(trial.prompts, min(FEWEST_PROMPTS, trial.prompts) - 1, -1):
                some = trial.model_copy(update={"steps": steps, "prompts": prompts})
                if self.trial(some) <= left:
                    return some
        return None

    def measuring(self) -> float:
        """Seconds for the validation examples, which the plain and the served prompts are measured on."""
        return 2 * self._costs.reading(0, self._validation) / self._rate

    def _runs(self, trial: TrialSettings) -> int:
        """Prompts that are tuned."""
        values = self._values
        if not foldable(self._shots):
            return 1
        if values["method"] == "auto":
            return trial.prompts if values["cross_validation"] else 1
        return REFERENCE_FOLDS + 1 if values["cross_validation"] else 1


def _within(encoding: float, seconds: float | None) -> float:
    """What so many seconds of encoding take in a search with a bound, of which they have a share at most."""
    return encoding if seconds is None else min(encoding, ENCODER_SHARE * seconds)
