"""What "auto" stands for: hyperparameters, the trials that a budget buys, and the search that follows from both."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, Final

from app.contract.tuning import Hyperparameters, ResolvedHyperparameters, TrialSettings
from worker.cpt.encoding.shots import Shots
from worker.cpt.selection.budget import fewer_steps
from worker.cpt.selection.choice import FEW_LABELS
from worker.cpt.selection.folds import FEWEST
from worker.cpt.selection.prompts import foldable, prompt_tokens
from worker.cpt.selection.search import SearchSettings
from worker.cpt.selection.trial_run import FEWEST_PROMPTS
from worker.cpt.selection.trials import MOST_READ, Trial
from worker.cpt.selection.tuned_vectors import tunable
from worker.cpt.tuning.config import CPTConfig
from worker.cpt.tuning.tuner import TuningSettings
from worker.jobs.encoding import Encoded
from worker.jobs.pricing import REFERENCE_FOLDS, Pricing
from worker.models import LanguageModel

#: Examples that are read under a prompt, and of them those that are scored.
_Read = tuple[int, int]
#: What "auto" stands for where the method is the reference's: the values of its configuration.
_REFERENCE: Final[dict[str, Any]] = {
    "steps": 20,
    "learning_rate": 1e-2,
    "batch_size": None,
    "projection_epsilon": CPTConfig.opt_projection_epsilon,
    "projection_format_epsilon": CPTConfig.opt_projection_format_epsilon,
    "weighted_loss_type": CPTConfig.opt_weighted_loss_type,
    "loss_decay_factor": CPTConfig.opt_loss_decay_factor,
    "leave_one_out": False,
    "token_dropout": 0.0,
    "epsilon_unit": "reference",
    "learning_rate_schedule": "constant",
    "cross_validation": False,
    "early_stopping": False,
    "calibration": False,
    "head": False,
    "encoder": False,
    "encoder_steps": 0,
    "max_seconds": None,
}
#: What it stands for where the method is "auto".
_BEST: Final[dict[str, Any]] = {
    "steps": 6,
    "learning_rate": 1e-2,
    "batch_size": 32,
    "projection_epsilon": 0.17,
    "projection_format_epsilon": 0.17,
    "loss_decay_factor": 0.0,
    "token_dropout": 0.05,
    "epsilon_unit": "embedding_norm",
    "learning_rate_schedule": "constant",
    "cross_validation": True,
    "early_stopping": True,
    "calibration": True,
    "head": True,
    "encoder": True,
    "encoder_steps": "auto",  # as many as the budget bears, see `planned_encoder_steps`
}
#: Seconds that "auto" allows for up to 200 examples, and for 10,000.
_FEW_SECONDS, _MANY_SECONDS, _FEW_EXAMPLES, _MANY_EXAMPLES = 120.0, 900.0, 200, 10_000
#: Prompts that serve together: a second gave 2.7 points on the mean of seven draws; a third gave a third of that, for
#: half as much again of a query's time.
_PROMPTS: Final = 2
#: The same where no label is scored, beside an encoder: with one, two, three and four 85.0, 85.0, 84.3, 84.3% and 91.3%
#: with each (38 labels of Banking77, 5 and 10 of each, 300 rows).
_PROMPTS_WITHOUT_SCORES: Final = 1
#: Examples in a prompt, at most.
_CONTEXT_EXAMPLES: Final = 24
#: Examples that are read under a prompt: the fewest for each label and in all. Of many labels half or more are scored
#: too, or else none are. To score one of 77 takes ten times as long as to read its states. With 38 labels
#: (Banking77, 5 and 10 of each, 300 rows) all scored gave 85.7 and 91.3% (NLL .473 and .311), none 84.3 and 90.7%
#: (.486, .305), 64 of them 85.3 and 90.3% (.482, .373), and 66 read and no more 86.0 and 90.3% (.507, .320).
_FEWEST_READ: Final = 48
_FEWEST_OF_LABEL: Final = 3
#: From so many examples a label on, tuning gains little (0.5 points at 64, 1.9 at 4), and reading more: 192 in place of
#: 81 gave 5.3 points (trec, 300 rows).
_MANY_OF_LABEL: Final = 32
#: From so many examples on, the labels of the training examples alone are learned: prompts then learn their context by
#: heart less. With fewer, the labels in the context are needed too (three draws of 8 lost 2.3 points without).
_FEWEST_WITHOUT_CONTEXT_LABELS: Final = 16
#: Steps of tuning of the encoder: 20 at two thirds of the rate gave 0 to 1 points more.
_ENCODER_STEPS: Final = 12
#: Share of the budget that all sentence vectors may be planned to take where the encoder is tuned.
_ENCODER_SHARE: Final = 0.4
#: Share of the budget that the trials may be planned to take: the rest is for fits, and for a slower machine.
_PLANNED_SHARE: Final = 0.7


def resolve(base: LanguageModel, given: Hyperparameters, encoded: Encoded) -> ResolvedHyperparameters:
    """The values that "auto" stands for: the reference's, or for the method "auto" the best known."""
    values = {name: value for name, value in given.model_dump().items() if value is not None}
    automatic, shots = values["method"] == "auto", encoded.shots
    computed: dict[str, Any] = {
        "max_seconds": automatic_seconds(len(shots)) if automatic else None,
        "leave_one_out": automatic and shots.context >= FEWEST,  # with fewer there is little left to learn from
        "context_examples": context_examples(shots) if automatic else shots.context,
    }
    if automatic:
        computed["weighted_loss_type"] = "decay" if len(shots) >= _FEWEST_WITHOUT_CONTEXT_LABELS else "none"
    if automatic and not base.encoders:
        values["encoder"] = False
    defaults = (_BEST if automatic else _REFERENCE) | computed
    values = {name: defaults.get(name, value) if value == "auto" else value for name, value in values.items()}
    values["method"] = given.method
    if values["max_seconds"] == "none":
        values["max_seconds"] = None
    if given.method == "icl":
        values |= {"steps": 0, "cross_validation": False, "early_stopping": False}
        values |= {"calibration": False, "head": False, "encoder": False}
    if not automatic:
        values |= {"max_seconds": None, "context_examples": shots.context}
    values["encoder_steps"] = planned_encoder_steps(base, values, encoded)
    if given.trials is None or given.method == "icl":
        values["trials"] = planned_trials(base, values, encoded)
    else:
        values["max_seconds"] = None
    return ResolvedHyperparameters.model_validate(values)


def automatic_seconds(examples: int) -> float:
    """What `max_seconds` "auto" stands for."""
    more = max(0, examples - _FEW_EXAMPLES) / (_MANY_EXAMPLES - _FEW_EXAMPLES)
    return _FEW_SECONDS + (_MANY_SECONDS - _FEW_SECONDS) * more


def context_examples(shots: Shots) -> int:
    """What `context_examples` "auto" stands for: as many of each label, where all find room."""
    labels = len(shots.labels)
    return _CONTEXT_EXAMPLES - _CONTEXT_EXAMPLES % labels if labels <= _CONTEXT_EXAMPLES else _CONTEXT_EXAMPLES


def planned_encoder_steps(base: LanguageModel, values: dict[str, Any], encoded: Encoded) -> int:
    """What `encoder_steps` "auto" stands for: as many as are best, unless they take too much of the budget."""
    if values["method"] != "auto" or not values["encoder"] or not base.encoders:
        return 0
    if not tunable(base.encoders[0], encoded.shots.truth):
        return 0
    if values["encoder_steps"] != "auto":
        return int(values["encoder_steps"])
    seconds = None if values.get("trials") else values["max_seconds"]
    best = values | {"encoder_steps": _ENCODER_STEPS}
    fits = seconds is None or Pricing(base, encoded, best).first_encoder() <= _ENCODER_SHARE * seconds
    return _ENCODER_STEPS if fits else 0


def planned_trials(base: LanguageModel, values: dict[str, Any], encoded: Encoded) -> tuple[TrialSettings, ...]:
    """The trials in the order of their worth, so large that all fit in the budget, with few prompts, if any do.

    What turns out not to fit is dropped as the search runs: only then is it known how fast the device is.
    """
    if values["method"] != "auto":
        # What is held out is read under the prompts before they are tuned too, for the report to compare with.
        return tuple(
            TrialSettings(
                steps=steps,
                context_examples=encoded.shots.context,
                examples=len(encoded.shots),
                prompts=1,
            )
            for steps in ((0, values["steps"]) if values["cross_validation"] else (values["steps"],))
        )
    pricing, size = Pricing(base, encoded, values), values["context_examples"]
    seconds = values["max_seconds"]
    left = math.inf if seconds is None else _PLANNED_SHARE * seconds - pricing.likely_encoding_within(seconds)

    def trial(steps: int, read: _Read, prompts: int) -> TrialSettings:
        examples, scored = read
        return TrialSettings(
            steps=steps,
            context_examples=size,
            examples=examples,
            prompts=prompts,
            scored_examples=scored if scored < examples else None,
        )

    def all_of(read: _Read) -> tuple[TrialSettings, ...]:
        if not read[1]:
            return (trial(0, read, _PROMPTS_WITHOUT_SCORES if values["encoder"] else _PROMPTS),)
        return trial(0, read, _PROMPTS), trial(values["steps"], read, _PROMPTS)

    sizes = _read_sizes(encoded.shots, values["head"])
    # Rather fewer steps, and then fewer examples read, than no tuning; of many examples or labels, rather no tuning.
    all_read = _are_many(encoded.shots) or (len(encoded.shots.labels) > FEW_LABELS and values["head"])
    tuned_sizes = [(read, scored) for read, scored in sizes if read == sizes[0][0] and scored] if all_read else sizes
    for read in tuned_sizes:
        for steps in fewer_steps(values["steps"]):
            if pricing.trial(trial(0, read, _PROMPTS)) + pricing.trial(trial(steps, read, FEWEST_PROMPTS)) <= left:
                return all_of(read)
    fitting = (read for read in sizes if pricing.trial(all_of(read)[0]) <= left)
    return all_of(next(fitting, sizes[-1]))


def _read_sizes(shots: Shots, headed: bool) -> list[_Read]:
    """How many examples may be read under a prompt, and how many of them scored, in the order of their worth.

    Of many labels rather fewer examples are scored, and none, than fewer read, if there are heads on what is read: but
    half at least or none, for those that are scored are held out alone.
    """
    most = min(len(shots), MOST_READ)
    sizes = _falling(most, min(most, max(_FEWEST_READ, _FEWEST_OF_LABEL * len(shots.labels))))
    if len(shots.labels) <= FEW_LABELS or not headed:
        return [(read, read) for read in sizes]
    return [(most, scored) for scored in sizes if 2 * scored >= most] + [(read, 0) for read in sizes]


def _falling(most: int, least: int) -> list[int]:
    """From the most to the least, by a quarter each time."""
    sizes = [most]
    while sizes[-1] * 3 // 4 > least:
        sizes.append(sizes[-1] * 3 // 4)
    return sizes if sizes[-1] == least else [*sizes, least]


def search_settings(base: LanguageModel, resolved: ResolvedHyperparameters, shots: Shots) -> SearchSettings:
    """How a job searches."""
    automatic = resolved.method == "auto"
    trials = tuple(Trial(**trial.model_dump()) for trial in resolved.trials)
    trials = trials or (Trial(resolved.steps, resolved.context_examples, len(shots), _PROMPTS),)
    folded = resolved.cross_validation and foldable(shots)
    prompts = max(_PROMPTS, *(trial.prompts for trial in trials)) if folded else 1
    return SearchSettings(
        tuning=TuningSettings(
            steps=resolved.steps,
            learning_rate=resolved.learning_rate,
            batch_size=resolved.batch_size,
            seed=resolved.seed,
            leave_one_out=resolved.leave_one_out,
            token_dropout=resolved.token_dropout,
            cosine=resolved.learning_rate_schedule == "cosine",
            epsilon_unit=base.embedding_norm if resolved.epsilon_unit == "embedding_norm" else None,
        ),
        config=_config(resolved),
        trials=trials,
        prompts=prompts if automatic else 0,
        folds=REFERENCE_FOLDS if folded and not automatic else 0,
        most_tokens=prompt_tokens(shots, base.context_length),
        calibrated=resolved.calibration,
        heads=resolved.head,
        preferred=_preferred(trials, shots, automatic) if resolved.early_stopping else None,
        max_seconds=resolved.max_seconds,
        encoder_steps=resolved.encoder_steps,
    )


def _preferred(trials: tuple[Trial, ...], shots: Shots, automatic: bool) -> int:
    """The trial to serve unless held-out examples speak against it: the tuned one, for `auto` unless they are many."""
    if automatic and _are_many(shots):
        return 0
    return next((number for number, trial in enumerate(trials) if trial.steps), 0)


def _are_many(shots: Shots) -> bool:
    """Whether examples of most labels are many."""
    counts = sorted(Counter(shots.truth).values())
    return counts[len(counts) // 2] >= _MANY_OF_LABEL


def _config(resolved: ResolvedHyperparameters) -> dict[str, Any]:
    return {
        "opt_weighted_loss_type": resolved.weighted_loss_type,
        "opt_loss_decay_factor": resolved.loss_decay_factor,
        "opt_projection_epsilon": resolved.projection_epsilon,
        "opt_projection_format_epsilon": resolved.projection_format_epsilon,
    }
