"""Ours and the peers that share its base model, frozen: ICL, CPT as in PEFT, and a head on the ICL prompt."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from app.contract.tuning import Example, Hyperparameters, TuningSpec
from benchmarks.accuracy.cells import Outcome, Task
from worker.classification.classify import probabilities
from worker.classification.resident import Resident
from worker.cpt.model.base_model import prepare, run, word_embeddings
from worker.cpt.model.packing import Packing, hide
from worker.cpt.scoring.prefix import PrefixKV
from worker.cpt.selection.search import Found, Search
from worker.cpt.turn import ALONE
from worker.evaluation.report import Predictions
from worker.jobs.planning import encode, resolve, search_settings
from worker.models import LanguageModel

_CPT = {"method": "cpt", "steps": 25, "weighted_loss_type": "decay", "loss_decay_factor": 0.95}
_CPT |= {"projection_epsilon": 0.2, "projection_format_epsilon": 0.1}


def icl(base: LanguageModel, task: Task) -> Outcome:
    """The plain context."""
    return _scored(base, task, {"method": "icl"})


def icl_calibrated(base: LanguageModel, task: Task) -> Outcome:
    """The plain context with batch calibration (arXiv 2309.17249) over all test rows."""
    plain = icl(base, task)
    logarithms = plain.probabilities.clamp_min(1e-12).log()
    return Outcome((logarithms - logarithms.mean(0)).softmax(1), plain.tuning_seconds, plain.classifying_seconds)


def cpt(base: LanguageModel, task: Task, learning_rate: float) -> Outcome:
    """PEFT's CPT, by our exact path, set as in its notebook."""
    return _scored(base, task, _CPT | {"learning_rate": learning_rate})


def auto(base: LanguageModel, task: Task, **levers: Any) -> Outcome:
    """Ours, all that is not among the `levers` left to the service."""
    return _scored(base, task, {"method": "auto"} | levers)


def hidden_head(base: LanguageModel, task: Task) -> Outcome:
    """Logistic regression on the last hidden state at the end of the ICL prompt; no example sees its own copy."""
    started = time.perf_counter()
    encoded = encode(base, _spec(task, {"method": "icl"}))
    shots = encoded.shots
    prefix = PrefixKV.compute(base.model, word_embeddings(base.model, encoded.context.tokens.ids))
    tokens = encoded.context.tokens
    marks = []
    for number in range(len(shots)):
        hidden = torch.zeros(len(tokens), dtype=torch.bool)
        first, end = tokens.span(number)
        hidden[first:end] = True
        marks.append(hidden)
    rows = _last_states(base, prefix, shots.queries_of(range(len(shots))), marks)
    head = LogisticRegression(max_iter=2000).fit(_unit(rows, rows), list(shots.truth))
    tuned = time.perf_counter()
    queries = [list(query) for query in _queries(base, task)]
    found = head.predict_proba(_unit(_last_states(base, prefix, queries, None), rows))
    return Outcome(torch.tensor(found), tuned - started, time.perf_counter() - tuned)


def _unit(states: Tensor, training: Tensor) -> Any:
    scaled = (states - training.mean(0)) / training.std(0).clamp_min(1e-6)
    return (scaled / scaled.norm(dim=1, keepdim=True)).numpy() * 10


@torch.inference_mode()
def _last_states(base: LanguageModel, prefix: PrefixKV, queries: list[list[int]], marks: list[Tensor] | None) -> Tensor:
    """[Q, H] the last hidden state of each query's last token, after the model's final norm."""
    model, found = base.model, []
    prepare(model)
    for start in range(0, len(queries), 16):
        some = queries[start : start + 16]
        lengths = [len(query) for query in some]
        hidden = hide(lengths, marks[start : start + 16]) if marks else None
        packing = Packing.causal(lengths, prefix.tokens, model.device, hidden)
        found.append(_states(base, prefix, some, packing)[torch.tensor(lengths).cumsum(0) - 1])
    return torch.cat(found)


def _states(base: LanguageModel, prefix: PrefixKV, queries: Sequence[Sequence[int]], packing: Packing) -> Tensor:
    caught: list[Tensor] = []
    hook = base.model.lm_head.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    try:
        ids = [token for query in queries for token in query]
        run(base.model, word_embeddings(base.model, ids), packing, prefix.layers, torch.arange(len(ids)))
    finally:
        hook.remove()
    return caught[0][0].float()


def _spec(task: Task, hyperparameters: dict[str, Any]) -> TuningSpec:
    return TuningSpec(
        examples=tuple(Example(text=text, label=label) for text, label in task.shots),
        labels=task.labels,
        hyperparameters=Hyperparameters(**hyperparameters),
    )


def _settings(base: LanguageModel, task: Task, hyperparameters: dict[str, Any]) -> Any:
    spec = _spec(task, hyperparameters)
    return search_settings(base, spec.hyperparameters, resolve(spec), encode(base, spec))


def _queries(base: LanguageModel, task: Task) -> tuple[tuple[int, ...], ...]:
    spec = _spec(task, {"method": "icl"})
    validation = tuple(Example(text=text, label=label) for text, label in task.test)
    return encode(base, spec.model_copy(update={"validation_examples": validation})).validation


def _scored(base: LanguageModel, task: Task, hyperparameters: dict[str, Any]) -> Outcome:
    started = time.perf_counter()
    shots = encode(base, _spec(task, hyperparameters)).shots
    search = Search(base.model, shots, _settings(base, task, hyperparameters), base.context_length)
    while not search.finished:
        search.step()
    found = search.result()
    tuned = time.perf_counter()
    served, measured = _served(found, shots.truth, hyperparameters["method"])
    prefix = PrefixKV.compute(base.model, found.embedding + (found.delta if served else 0))
    classifier = found.classifier if served and hyperparameters["method"] == "auto" else None
    resident = Resident(prefix, shots.label_ids, shots.template, classifier)
    queries, texts = [list(query) for query in _queries(base, task)], [text for text, _ in task.test]
    compute = partial(probabilities, base, resident, turn=ALONE)
    parts = [compute(queries[i : i + 64], texts[i : i + 64]) for i in range(0, len(texts), 64)]
    detail = {"served": "tuned" if served else "icl", "steps": found.steps, **measured}
    detail["weights"] = found.classifier.mixture.weights.tolist()
    detail["decay"] = found.config["opt_loss_decay_factor"]
    return Outcome(torch.cat(parts), tuned - started, time.perf_counter() - tuned, detail)


def _served(found: Found, truth: Sequence[int], method: str) -> tuple[bool, dict[str, Any]]:
    """Whether what was tuned would be served, and what the report says of it."""
    if found.held_out is None:
        return method != "icl", {}
    numbers = [number for fold in found.held_out.folds for number in fold]
    labels = torch.tensor([truth[number] for number in numbers])
    predictions = Predictions("folds", labels, found.held_out.icl, found.held_out.tuned)
    served = method != "auto" or not predictions.tuned_is_worse
    chosen = predictions.tuned if served else predictions.icl
    right = int((chosen.argmax(1) == labels).sum())
    return served, {"held_out_right": right, "held_out": len(labels)}
