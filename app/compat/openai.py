"""OpenAI's ``POST /v1/decisions`` (openai-python 3.57): its request to questions, and answers to its response.

Pure functions. ``prompt_cache_key``, ``prompt_cache_options``, ``safety_identifier``, a message's ``phase`` and a
part's ``prompt_cache_breakpoint`` are accepted and change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, StrictBool, StrictStr

from app.compat.bodies import DoorBody
from app.compat.questions import (
    Kind,
    Option,
    Question,
    choice_confidence,
    expected_level,
    score_confidence,
)
from app.compat.texts import Unreadable, joined_parts, named_type, transcript
from app.contract.payload import Payload

MAX_QUESTIONS: Final = 400
MAX_CHOICES: Final = 255

Parts = str | list[dict[str, Any]]


class PredicateQuestion(Payload):
    """How likely is a statement about the input true?"""

    type: Literal["predicate"]
    instructions: Parts
    name: str | None = None


class ChoiceValue(Payload):
    """One option; the same text as a string and as a boolean are two different options."""

    value: StrictStr | StrictBool
    description: str | None = None


class ChoiceQuestion(Payload):
    """Which of these options?"""

    type: Literal["choice"]
    instructions: Parts
    choices: Annotated[list[ChoiceValue], Field(min_length=1, max_length=MAX_CHOICES)]
    name: str | None = None


class ScoreLevel(Payload):
    """One level of a scale."""

    label: str
    description: str | None = None


class ScoreQuestion(Payload):
    """Which of these ordered levels?"""

    type: Literal["score"]
    instructions: Parts
    levels: Annotated[list[ScoreLevel], Field(min_length=1, max_length=MAX_CHOICES)]
    name: str | None = None


AnyQuestion = Annotated[PredicateQuestion | ChoiceQuestion | ScoreQuestion, Field(discriminator="type")]


class DecisionRequest(DoorBody):
    """The body of ``POST /v1/decisions``."""

    model_config = ConfigDict(strict=True)

    model: Annotated[str, Field(min_length=1, max_length=2_000)]
    input: str | Annotated[list[dict[str, Any]], Field(min_length=1)]
    questions: Annotated[list[AnyQuestion], Field(min_length=1, max_length=MAX_QUESTIONS)]
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    safety_identifier: str | None = None


def text_of(request: DecisionRequest) -> tuple[str, str]:
    """The text to classify, and the instructions that system and developer messages give ('' without any).

    Raises `Unreadable` for calls of tools and their outputs, images, and an input that holds no text.
    """
    if isinstance(request.input, str):
        return request.input, ""
    said: list[tuple[str, str]] = []
    instructions: list[str] = []
    for message in request.input:
        kind, role = message.get("type", "message"), message.get("role")
        if kind != "message" or not isinstance(role, str):
            raise Unreadable(f"input of {named_type(kind)} cannot be read; send messages with text")
        text = joined_parts(message.get("content", ""))
        if role in ("system", "developer"):
            instructions.append(text)
        else:
            said.append((role, text))
    if not said:
        raise Unreadable("the input has no message of a user or an assistant")
    return transcript(said), "\n".join(instructions)


def questions_of(request: DecisionRequest) -> tuple[Question, ...]:
    """The questions, in order. Raises `Unreadable` for instructions that are not text, and what `Question` raises."""
    return tuple(_question(asked) for asked in request.questions)


def _question(asked: PredicateQuestion | ChoiceQuestion | ScoreQuestion) -> Question:
    instructions = joined_parts(asked.instructions)
    match asked:
        case PredicateQuestion():
            return Question(asked.name, Kind.PREDICATE, instructions, (Option.of(True), Option.of(False)))
        case ChoiceQuestion():
            options = tuple(Option.of(choice.value, choice.description) for choice in asked.choices)
            return Question(asked.name, Kind.CHOICE, instructions, options)
        case ScoreQuestion():
            levels = tuple(Option.of(level.label, level.description) for level in asked.levels)
            return Question(asked.name, Kind.SCORE, instructions, levels)


def answer(question: Question, probabilities: Sequence[float] | None) -> dict[str, Any]:
    """One entry of ``answers``; None is a refusal."""
    if probabilities is None:
        return {"type": "refusal", "name": question.name}
    match question.kind:
        case Kind.PREDICATE:
            return {"type": "predicate", "name": question.name, "probability": probabilities[0]}
        case Kind.CHOICE:
            best = max(range(len(probabilities)), key=probabilities.__getitem__)
            return {
                "type": "choice",
                "name": question.name,
                "choice": question.options[best].value,
                "confidence": choice_confidence(probabilities),
                "probabilities": [
                    {"value": option.value, "probability": p}
                    for option, p in zip(question.options, probabilities, strict=True)
                ],
            }
        case Kind.SCORE:
            return {
                "type": "score",
                "name": question.name,
                "score": expected_level(probabilities),
                "confidence": score_confidence(probabilities),
                "probabilities": [
                    {"value": level, "label": option.label, "probability": p}
                    for level, (option, p) in enumerate(zip(question.options, probabilities, strict=True))
                ],
            }


def decision(model: str, answers: Sequence[dict[str, Any]], input_tokens: int) -> dict[str, Any]:
    """The response: every integer of ``usage`` is there, for the client's helpers fail on a missing one."""
    return {
        "model": model,
        "answers": list(answers),
        "usage": {
            "input_tokens": input_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": input_tokens,
        },
    }


def error(document: dict[str, Any]) -> dict[str, Any]:
    """The problem document ``document`` with OpenAI's ``error`` beside its fields."""
    described = {"message": document["detail"], "type": document["code"], "param": document["param"]}
    return {**document, "error": {**described, "code": document["code"]}}
