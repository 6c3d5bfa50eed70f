"""Ours and the peers that share its base model: ICL, with batch calibration, and CPT as in PEFT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from app.contract.tuning import Example, Hyperparameters, TuningSpec
from benchmarks.accuracy.cells import Outcome, Task, seconds_clock
from worker.cpt.encoding.context import encode_query
from worker.cpt.encoding.shots import Shots
from worker.cpt.scoring.predict import Predictor
from worker.cpt.scoring.prefix import PrefixKV
from worker.cpt.selection.result import SearchResult
from worker.cpt.selection.search import Search
from worker.jobs.defaults import resolve, search_settings
from worker.jobs.encoding import encode
from worker.jobs.pricing import Pricing
from worker.models import LanguageModel

#: Set as in PEFT's notebook.
_CPT = {"method": "cpt", "steps": 25, "weighted_loss_type": "decay", "loss_decay_factor": 0.95}
_CPT |= {"projection_epsilon": 0.2, "projection_format_epsilon": 0.1}
#: The reference's context is as long as its examples: beyond so many it takes hours.
MOST_REFERENCE_EXAMPLES = 24
_AT_ONCE = 64
#: Matrix rate (per second) of the quiet machine of two cores whose budgets are kept: AMD EPYC, family 25, model 17.
_FLOPS = 212e9


def icl(base: LanguageModel, task: Task) -> Outcome:
    """The plain context of all examples, in the order in which they were drawn."""
    return learn(base, task, {"method": "icl"})


def icl_calibrated(base: LanguageModel, task: Task) -> Outcome:
    """The plain context with batch calibration (arXiv 2309.17249) over all test rows."""
    plain = icl(base, task)
    logarithms = plain.probabilities.clamp_min(1e-12).log()
    return Outcome((logarithms - logarithms.mean(0)).softmax(1), plain.tuning_seconds, plain.classifying_seconds)


def cpt(base: LanguageModel, task: Task, learning_rate: float) -> Outcome:
    """PEFT's CPT, by our exact path."""
    return learn(base, task, _CPT | {"learning_rate": learning_rate})


def auto_with_texts(base: LanguageModel, task: Task, seed: int) -> Outcome:
    """`auto` with texts without labels as `calibration_texts`, as batch calibration has those of all test rows."""
    return auto(base, replace(task, calibration_texts=task.unlabelled), seed=seed)


def auto(base: LanguageModel, task: Task, **levers: Any) -> Outcome:
    """Ours, all that is not among the `levers` left to the service, but for the time; see `bought`."""
    return learn(base, task, bought(base, task, **levers))


def first_trial(base: LanguageModel, task: Task, seed: int) -> Outcome:
    """`auto` without tuning of its prompts: the first of the trials that `bought` gives."""
    given = bought(base, task, seed=seed)
    return learn(base, task, given | {"trials": given["trials"][:1]})


def one_prompt(base: LanguageModel, task: Task, seed: int) -> Outcome:
    """`auto` with one prompt in place of two: the trials that `bought` gives, with a prompt less each."""
    given = bought(base, task, seed=seed)
    return learn(base, task, given | {"trials": [trial | {"prompts": 1} for trial in given["trials"]]})


def nameless(base: LanguageModel, task: Task, seed: int) -> Outcome:
    """`auto` whose regressions do not learn what labels are called."""
    return learn(base, task, bought(base, task, seed=seed), named=False)


def bought(base: LanguageModel, task: Task, **levers: Any) -> dict[str, Any]:
    """Hyperparameters of method `auto`, all that is not among the `levers` left to the service, but for the time.

    The trials are those that `max_seconds` "auto" buys on a quiet machine of two cores, and are run whole: so other
    work on this one changes no figure.
    """
    given = {"method": "auto"} | levers
    if "trials" in given:
        return given
    spec = _spec(task, given)
    encoded = encode(base, spec)
    quiet = replace(base, flops=_FLOPS)
    resolved = resolve(quiet, spec.hyperparameters, encoded)
    trials = Pricing(quiet, encoded, resolved.model_dump()).affordable(resolved.trials, resolved.max_seconds)
    return given | {"trials": [trial.model_dump() for trial in trials], "encoder_steps": resolved.encoder_steps}


@dataclass(frozen=True)
class Learned:
    """What a job has learned: its result, and what predicts with it."""

    base: LanguageModel
    shots: Shots
    found: SearchResult
    predictor: Predictor

    def probabilities(self, texts: Sequence[str]) -> Tensor:
        """[N, L] float64."""
        queries = [encode_query(self.base.tokenizer, self.shots.template, text) for text in texts]
        return self.predictor.probabilities(self.base.model, queries, texts)


def learn(base: LanguageModel, task: Task, given: dict[str, Any], *, named: bool = True) -> Outcome:
    """What a job with these hyperparameters learns, and what it then says of the test rows.

    named: whether its regressions learn what labels are called, as the service has it.
    """
    now = seconds_clock()
    started = now()
    learned = learned_from(base, task, given, named=named)
    done = now()
    texts = [text for text, _ in task.test]
    parts = [learned.probabilities(texts[i : i + _AT_ONCE]) for i in range(0, len(texts), _AT_ONCE)]
    return Outcome(torch.cat(parts), done - started, now() - done, _detail(learned.found, learned.shots.truth))


def learned_from(base: LanguageModel, task: Task, given: dict[str, Any], *, named: bool = True) -> Learned:
    """Learn from the examples of a task as a worker does, whose clock starts now. named: as in `learn`."""
    now = seconds_clock()
    started = now()
    spec = _spec(task, given)
    encoded = encode(base, spec)
    if not named:
        encoded = replace(encoded, shots=replace(encoded.shots, label_texts=()))
    shots, resolved = encoded.shots, resolve(base, spec.hyperparameters, encoded)
    encoders = base.encoders if resolved.encoder else ()
    settings = search_settings(base, resolved, shots)
    texts = encoded.calibration_texts
    search = Search(base.model, encoders, shots, settings, calibration_texts=texts, clock=lambda: now() - started)
    while not search.finished:
        search.step()
    found = search.result()
    prefixes = tuple(PrefixKV.compute(base.model, prompt.embeds) for prompt in found.prompts)
    predictor = Predictor(prefixes, shots.label_ids, found.classifier, found.encoder)
    return Learned(base, shots, found, predictor)


def _spec(task: Task, given: dict[str, Any]) -> TuningSpec:
    return TuningSpec(
        examples=tuple(Example(text=text, label=label) for text, label in task.shots),
        labels=task.labels,
        calibration_texts=task.calibration_texts,
        hyperparameters=Hyperparameters(**given),
    )


def _detail(found: SearchResult, truth: tuple[int, ...]) -> dict[str, Any]:
    """What the search did and what its report says of the result."""
    detail: dict[str, Any] = {"steps": found.trial.steps, "prompts": len(found.prompts)}
    detail["trials"] = [[one.trial.steps, one.trial.prompts, one.trial.examples] for one in found.outcomes]
    if found.classifier is not None:
        detail |= {"encoder_tuned": found.classifier.encoder_change is not None}
        detail |= {"encoder": None if found.encoder is None else found.encoder.name}
        detail |= {"weights": found.classifier.mixture.weights.tolist(), "shortlist": found.classifier.shortlist}
    if found.held_out is None:
        return detail
    labels = torch.tensor([truth[number] for number in found.held_out.numbers])
    right: Tensor = found.held_out.served.argmax(1) == labels
    return detail | {"held_out": len(labels), "held_out_right": int(right.sum())}
