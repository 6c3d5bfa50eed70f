"""TypeSafe's ``POST /v1/systemone`` (typesafe-sdk 0.7): its request to questions, and answers to its response.

Pure functions. A field at the top of the body that is not known is ignored, as newer clients send some.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field

from app.compat.bodies import DoorBody
from app.compat.questions import (
    Kind,
    Option,
    Question,
    choice_confidence,
    expected_level,
    score_confidence,
)
from app.compat.texts import written
from app.contract.payload import Payload

#: What clients name where their users name nothing.
DEFAULT_MODEL: Final = "jev-latest"
MAX_OPTIONS: Final = 255
MAX_LEVELS: Final = 10

_UNPROCESSABLE: Final = 422
#: What clients read of a refused key.
_ERROR_TYPES: Final = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}

Content = str | dict[str, Any] | list[Any]

#: How the two outcomes of a yes-or-no question are keyed, as JSON writes them.
_TRUE, _FALSE = "true", "false"


class NoulCriteria(Payload):
    """What the two outcomes mean."""

    true: Content | None = None
    false: Content | None = None


class NoulQuestion(Payload):
    """A yes-or-no question."""

    type: Literal["noul"]
    instructions: Content | None = None
    criteria: NoulCriteria | None = None


class ChoiceQuestion(Payload):
    """A choice among named options."""

    type: Literal["choice"]
    instructions: Content | None = None
    criteria: Annotated[dict[str, Content | None], Field(min_length=1, max_length=MAX_OPTIONS)]


class ScoreQuestion(Payload):
    """A place on an ordered scale; one description for each level from 0."""

    type: Literal["score"]
    instructions: Content | None = None
    criteria: Annotated[list[Content], Field(min_length=1, max_length=MAX_LEVELS)]


AnyQuestion = Annotated[NoulQuestion | ChoiceQuestion | ScoreQuestion, Field(discriminator="type")]


class SystemOneRequest(DoorBody):
    """The body of ``POST /v1/systemone``; ``questions`` are keyed by the names that the answers repeat."""

    model_config = ConfigDict(strict=True, extra="ignore")

    state: Content
    model: Annotated[str, Field(min_length=1, max_length=2_000)] = DEFAULT_MODEL
    questions: Annotated[dict[Annotated[str, Field(min_length=1)], AnyQuestion], Field(min_length=1)]


def text_of(request: SystemOneRequest) -> str:
    """The text to classify."""
    return written(request.state)


def questions_of(request: SystemOneRequest) -> tuple[Question, ...]:
    """The questions, in order. Raises what `Question` raises."""
    return tuple(_question(name, asked) for name, asked in request.questions.items())


def _question(name: str, asked: NoulQuestion | ChoiceQuestion | ScoreQuestion) -> Question:
    instructions = "" if asked.instructions is None else written(asked.instructions)
    match asked:
        case NoulQuestion():
            criteria = asked.criteria or NoulCriteria()
            outcomes = Option.of(True, _described(criteria.true)), Option.of(False, _described(criteria.false))
            return Question(name, Kind.PREDICATE, instructions, outcomes)
        case ChoiceQuestion():
            named = tuple(Option.of(key, _described(content)) for key, content in asked.criteria.items())
            return Question(name, Kind.CHOICE, instructions, named)
        case ScoreQuestion():
            levels = tuple(Option.of(written(level)) for level in asked.criteria)
            return Question(name, Kind.SCORE, instructions, levels)


def _described(content: Content | None) -> str | None:
    return None if content is None else written(content)


def answer(question: Question, asked: AnyQuestion, probabilities: Sequence[float]) -> dict[str, Any]:
    """One entry of ``answers``. The three types of answers are the only ones that the client keeps."""
    match question.kind:
        case Kind.PREDICATE:
            return {"type": "noul", "noul": probabilities[0]}
        case Kind.CHOICE:
            best = max(range(len(probabilities)), key=probabilities.__getitem__)
            return {
                "type": "choice",
                "choice": question.options[best].label,
                "probabilities": {o.label: p for o, p in zip(question.options, probabilities, strict=True)},
                "confidence": choice_confidence(probabilities),
            }
        case Kind.SCORE:
            return {
                "type": "score",
                "score": expected_level(probabilities),
                "legend": {str(level): criterion for level, criterion in enumerate(asked.criteria or ())},
                "probabilities": {str(level): p for level, p in enumerate(probabilities)},
                "confidence": score_confidence(probabilities),
            }


def response(model: str, answers: dict[str, dict[str, Any]], input_tokens: int) -> dict[str, Any]:
    """The response; ``answers`` are keyed by the questions' names."""
    return {"model": model, "answers": answers, "usage": {"input_tokens": input_tokens, "output_tokens": 0}}


def error(document: dict[str, Any]) -> dict[str, Any]:
    """The problem document ``document`` as this vendor's clients read it; our own sentence stands in ``title``.

    ``detail`` is a list of faults ({loc, msg, type} each) for a body that fails validation, else an object.
    """
    kind = _ERROR_TYPES.get(document["status"], document["code"])
    detail: Any = {"error_type": kind, "message": document["detail"]}
    if document["status"] == _UNPROCESSABLE:
        detail = [{"loc": ["body", *_location(document["param"])], "msg": document["detail"], "type": kind}]
    return {**document, "title": document["detail"], "detail": detail}


def _location(pointer: str | None) -> list[str | int]:
    parts = (part.replace("~1", "/").replace("~0", "~") for part in (pointer or "").split("/")[1:])
    return [int(part) if part.isdecimal() else part for part in parts]
