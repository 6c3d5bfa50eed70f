"""What a door asks, whatever its vendor: questions with options, and the figures that their answers carry.

Pure functions. Knows no vendor's words, no store, no bus and no HTTP.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

#: Labels of a context that can answer a predicate: what is true stands first.
_PREDICATE_LABELS: Final = (("true", "false"), ("yes", "no"))
#: The metadata of a context that says below which probability it abstains.
_MIN_CONFIDENCE: Final = "min_confidence"
#: The question name that stands for every question that no entry names.
_ANY_QUESTION: Final = "*"


class Unanswerable(ValueError):
    """A question that the context or the model list cannot answer; the message says why."""


class Kind(StrEnum):
    """What a question asks for: a truth, one of several values, or a place on a scale."""

    PREDICATE = "predicate"
    CHOICE = "choice"
    SCORE = "score"


@dataclass(frozen=True)
class Option:
    """One possible answer. ``value`` keeps the JSON type that the client gave; ``label`` is how a context names it."""

    value: str | bool
    label: str
    description: str | None = None

    @classmethod
    def of(cls, value: str | bool, description: str | None = None) -> Option:
        """The option of a client's value: true and false are labels in lower case, as JSON writes them."""
        label = value if isinstance(value, str) else str(value).lower()
        return cls(value, label, description)


@dataclass(frozen=True)
class Question:
    """A question about a text. The options of a predicate are true and false, those of a score its levels from 0."""

    name: str | None
    kind: Kind
    instructions: str
    options: tuple[Option, ...]

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for option in self.options:
            if option.label in seen:
                raise Unanswerable(f"two options of the question mean the same label {option.label!r}")
            seen.add(option.label)


def label_indices(question: Question, labels: Sequence[str]) -> tuple[int, ...]:
    """The place among a context's ``labels`` of each option of ``question``.

    Raises `Unanswerable` for a predicate whose context has neither true and false nor yes and no, and for an option
    that is no label of the context.
    """
    places = {label: place for place, label in enumerate(labels)}
    if question.kind is Kind.PREDICATE:
        for pair in _PREDICATE_LABELS:
            if set(pair) <= set(places):
                return tuple(places[label] for label in pair)
        raise Unanswerable("a yes-or-no question needs a context with the labels true and false, or yes and no")
    unknown = [option.label for option in question.options if option.label not in places]
    if unknown:
        raise Unanswerable(f"the context has no label {unknown[0]!r}; its labels are {', '.join(labels)}")
    return tuple(places[option.label] for option in question.options)


def renormalised(probabilities: Sequence[float], places: Sequence[int]) -> tuple[float, ...]:
    """The probabilities at ``places``, scaled to sum to 1; equal ones where all of them are 0."""
    kept = [probabilities[place] for place in places]
    total = sum(kept)
    return tuple(one / total if total > 0 else 1 / len(kept) for one in kept)


def choice_confidence(probabilities: Sequence[float]) -> float:
    """How peaked the answer to a choice is: 0 for equal probabilities, 1 for a certain one.

    (max p - 1/n) / (1 - 1/n), which is 1 for a single option.
    """
    count = len(probabilities)
    return 1.0 if count == 1 else max(0.0, (max(probabilities) - 1 / count) / (1 - 1 / count))


def score_confidence(probabilities: Sequence[float]) -> float:
    """How close to its mode the answer to a score stays: max(0, 1 - a/b), which is 1 for a single level.

    a is the mean distance from the mode, b the mean distance of the levels from the middle of the scale.
    """
    count = len(probabilities)
    if count == 1:
        return 1.0
    mode = max(range(count), key=probabilities.__getitem__)
    spread = sum(p * abs(level - mode) for level, p in enumerate(probabilities))
    widest = sum(abs(level - (count - 1) / 2) for level in range(count)) / count
    return max(0.0, 1 - spread / widest)


def expected_level(probabilities: Sequence[float]) -> float:
    """The expected level of a score, levels counted from 0."""
    return sum(level * p for level, p in enumerate(probabilities))


def least_confidence(metadata: Mapping[str, str]) -> float:
    """The probability below which a context abstains, as its ``metadata`` says; 0 where that is no number."""
    try:
        least = float(metadata.get(_MIN_CONFIDENCE, "0"))
    except ValueError:
        return 0.0
    return least if math.isfinite(least) else 0.0


def answering_models(model: str, questions: Sequence[Question]) -> tuple[str, ...]:
    """The model or context that answers each question, as the client's ``model`` says.

    A ``model`` with an equals sign is a list such as ``team=support@prod,*=smollm2-135m-instruct``: question names and
    what answers them. It is split at commas, each entry at its last equals sign; ``*`` answers the rest.
    Raises `Unanswerable` for an entry without a name or a model, and for a question that nothing answers.
    """
    if "=" not in model:
        return (model,) * len(questions)
    named: dict[str, str] = {}
    for entry in model.split(","):
        name, _, answerer = (part.strip() for part in entry.rpartition("="))
        if not name or not answerer:
            raise Unanswerable(f"{entry.strip()!r} in the list of models is not of the form question=model")
        named[name] = answerer
    return tuple(_answerer(named, question.name) for question in questions)


def _answerer(named: dict[str, str], question: str | None) -> str:
    found = named.get(question) if question is not None else None
    found = found or named.get(_ANY_QUESTION)
    if found is None:
        raise Unanswerable(f"nothing in the list of models answers the question {question!r}; add an entry *=model")
    return found
