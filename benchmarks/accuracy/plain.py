"""What ``POST /classify`` answers without a job: zero-shot, and with the examples of the request."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from app.contract.plain import PlainContext, PlainLabel
from benchmarks.accuracy.cells import Outcome, Task, seconds_clock
from worker.classification.plain import prepare_plain
from worker.cpt.encoding.context import encode_query
from worker.models import LanguageModel

_AT_ONCE = 64


def zero_shot(base: LanguageModel, task: Task, descriptions: Mapping[str, str]) -> Outcome:
    """By the names of the labels alone, or by those of their `descriptions` that are given."""
    labels = tuple(PlainLabel(name=label, description=descriptions.get(label)) for label in task.labels)
    return _classified(base, task, PlainContext(labels=labels))


def with_examples(base: LanguageModel, task: Task) -> Outcome:
    """By all examples in one prompt, in the order in which they were drawn."""
    labels = tuple(PlainLabel(name=label) for label in task.labels)
    return _classified(base, task, PlainContext(examples=tuple(task.shots), labels=labels))


def _classified(base: LanguageModel, task: Task, plain: PlainContext) -> Outcome:
    now = seconds_clock()
    started = now()
    resident = prepare_plain(base, plain)
    prepared = now()
    texts = [text for text, _ in task.test]
    queries = [encode_query(base.tokenizer, resident.template, text) for text in texts]
    parts = [
        resident.predictor.probabilities(base.model, queries[i : i + _AT_ONCE], texts[i : i + _AT_ONCE])
        for i in range(0, len(texts), _AT_ONCE)
    ]
    return Outcome(torch.cat(parts), prepared - started, now() - prepared)
