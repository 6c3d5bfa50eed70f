"""Ours and the peers that share its base model: ICL, with batch calibration, and CPT as in PEFT."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from app.contract.tuning import Example, Hyperparameters, TuningSpec
from benchmarks.accuracy.cells import Outcome, Task
from worker.cpt.encoding.context import encode_query
from worker.cpt.scoring.predict import Predictor
from worker.cpt.scoring.prefix import PrefixKV
from worker.cpt.selection.result import SearchResult
from worker.cpt.selection.search import Search
from worker.jobs.defaults import resolve, search_settings
from worker.jobs.encoding import encode
from worker.models import LanguageModel

#: Set as in PEFT's notebook.
_CPT = {"method": "cpt", "steps": 25, "weighted_loss_type": "decay", "loss_decay_factor": 0.95}
_CPT |= {"projection_epsilon": 0.2, "projection_format_epsilon": 0.1}
#: The reference's context is as long as its examples: beyond so many it takes hours.
MOST_REFERENCE_EXAMPLES = 24
_AT_ONCE = 64


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


def auto(base: LanguageModel, task: Task, **levers: Any) -> Outcome:
    """Ours, all that is not among the `levers` left to the service."""
    return learn(base, task, {"method": "auto"} | levers)


def learn(base: LanguageModel, task: Task, given: dict[str, Any]) -> Outcome:
    """What a job with these hyperparameters learns, and what it then says of the test rows."""
    started = time.perf_counter()
    spec = TuningSpec(
        examples=tuple(Example(text=text, label=label) for text, label in task.shots),
        labels=task.labels,
        hyperparameters=Hyperparameters(**given),
    )
    encoded = encode(base, spec)
    shots, resolved = encoded.shots, resolve(base, spec.hyperparameters, encoded)
    encoder = base.encoder if resolved.encoder else None
    settings = search_settings(base, resolved, shots)
    search = Search(base.model, encoder, shots, settings, clock=lambda: time.perf_counter() - started)
    while not search.finished:
        search.step()
    found = search.result()
    learned = time.perf_counter()
    predictor = Predictor(
        tuple(PrefixKV.compute(base.model, prompt.embeds) for prompt in found.prompts),
        shots.label_ids,
        found.classifier,
    )
    texts = [text for text, _ in task.test]
    queries = [encode_query(base.tokenizer, shots.template, text) for text in texts]
    parts = [
        predictor.probabilities(base.model, encoder, queries[i : i + _AT_ONCE], texts[i : i + _AT_ONCE])
        for i in range(0, len(texts), _AT_ONCE)
    ]
    return Outcome(torch.cat(parts), learned - started, time.perf_counter() - learned, _detail(found, shots.truth))


def _detail(found: SearchResult, truth: tuple[int, ...]) -> dict[str, Any]:
    """What the search did and what its report says of the result."""
    detail: dict[str, Any] = {"steps": found.trial.steps, "trials": [one.status for one in found.outcomes]}
    if found.classifier is not None:
        detail |= {"weights": found.classifier.mixture.weights.tolist(), "shortlist": found.classifier.shortlist}
    if found.held_out is None:
        return detail
    labels = torch.tensor([truth[number] for number in found.held_out.numbers])
    right: Tensor = found.held_out.served.argmax(1) == labels
    return detail | {"held_out": len(labels), "held_out_right": int(right.sum())}
