"""Answers to ``POST /classify``, from the labels' confidences to JSON.

A large one has a quarter of a million confidences, so its classes are quick to make and nothing validates them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import TypeAdapter

from app.contract.messages import Scored
from app.contract.objects import Context
from app.records.connection import new_id


@dataclass(slots=True)
class LabelConfidence:
    """How probable a label is."""

    confidence: float


@dataclass(slots=True)
class Classification:
    """The answer to one input. When ``abstained``, no label reached ``min_confidence`` and ``prediction`` is null."""

    index: int
    prediction: str | None
    confidence: float
    abstained: bool
    truncated: bool
    labels: dict[str, LabelConfidence]


@dataclass(slots=True)
class Usage:
    """Tokens that the answer took."""

    input_tokens: int
    context_tokens: int


@dataclass(slots=True)
class Answer:
    """The answers to all inputs, in their order. ``context_id`` and ``context_version`` are null without a context.

    ``calibrated`` says whether the confidences were fitted to held-out examples.
    """

    id: str
    object: Literal["classification"]
    context_id: str | None
    context_version: int | None
    model: str
    calibrated: bool
    classifications: list[Classification]
    usage: Usage


@dataclass(frozen=True)
class Answerer:
    """What answered: a context, or what a request brought, which has neither id nor version."""

    model: str
    labels: tuple[str, ...]
    tokens: int
    calibrated: bool = False
    context_id: str | None = None
    version: int | None = None

    @classmethod
    def of(cls, context: Context) -> Answerer:
        """That of a context that can answer."""
        calibrated = context.hyperparameters is not None and context.hyperparameters.calibration
        return cls(context.model, context.labels, context.tokens, calibrated, context.id, context.version)


_ANSWER = TypeAdapter(Answer)


def write(answerer: Answerer, scored: Sequence[Scored], min_confidence: float, top_k: int | None = None) -> bytes:
    """The answer as JSON, with the ``top_k`` likeliest labels of each input or, if that is None, all."""
    answer = Answer(
        id=new_id("cls"),
        object="classification",
        context_id=answerer.context_id,
        context_version=answerer.version,
        model=answerer.model,
        calibrated=answerer.calibrated,
        classifications=[
            _classification(index, answerer.labels, one, min_confidence, top_k) for index, one in enumerate(scored)
        ],
        usage=Usage(input_tokens=sum(one.tokens for one in scored), context_tokens=answerer.tokens),
    )
    return _ANSWER.dump_json(answer)


def _classification(
    index: int, labels: tuple[str, ...], scored: Scored, min_confidence: float, top_k: int | None
) -> Classification:
    confidence = max(scored.confidences)
    told = list(zip(labels, scored.confidences, strict=True))
    if top_k is not None:
        told = sorted(told, key=lambda one: -one[1])[:top_k]
    abstained = confidence < min_confidence
    return Classification(
        index=index,
        prediction=None if abstained else labels[scored.confidences.index(confidence)],
        confidence=confidence,
        abstained=abstained,
        truncated=scored.truncated,
        labels={label: LabelConfidence(probability) for label, probability in told},
    )
