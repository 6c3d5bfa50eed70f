"""How questions are answered: by the contexts or base models that the client's ``model`` names.

The same calls as ``/classify``. An answer depends on its own question and on the text alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, TypeVar

from app.classification.batcher import Batcher
from app.classification.bus import Refused
from app.classification.lines import Answered as Scores
from app.compat.questions import Question, Unanswerable, answering_models, label_indices, least_confidence, renormalised
from app.compat.zero_shot import as_plain_context, checked_text
from app.contexts.classifying import classify_plainly, classify_texts
from app.contract.messages import Scored
from app.contract.names import ErrorCode
from app.contract.objects import Context
from app.contract.plain import PlainContext
from app.errors import DomainError
from app.records.store import TenantRecords

T = TypeVar("T")

#: What a question with a single option needs no model for.
_CERTAIN: Final = (1.0,)


class Reading(NamedTuple):
    """A text as one context, or one question to a base model, read it: tokens of the text, and of what stood before."""

    tokens: int
    context_tokens: int


@dataclass(frozen=True)
class Answered:
    """The answers to questions about one text: the probabilities of each question's options, None for an abstention."""

    probabilities: tuple[tuple[float, ...] | None, ...]
    readings: tuple[Reading, ...]

    @property
    def tokens(self) -> int:
        """Tokens of the text, counted once for each reading."""
        return sum(reading.tokens for reading in self.readings)

    @property
    def context_tokens(self) -> int:
        """Tokens of what stood before the text in each reading."""
        return sum(reading.context_tokens for reading in self.readings)


@dataclass(frozen=True)
class Asked:
    """A text and what is asked of it. ``instructions`` are for all questions; ``param`` is where the text stands.

    ``min_confidence`` None leaves abstention to the contexts' metadata.
    """

    text: str
    questions: Sequence[Question]
    param: str
    instructions: str = ""
    min_confidence: float | None = None


class _Part(NamedTuple):
    """What one entry of ``model`` answers: the answers by the places of their questions, and what was read for them."""

    answers: dict[int, tuple[float, ...] | None]
    readings: list[Reading]


@dataclass(frozen=True)
class Answering:
    """What answers a tenant: its contexts, and the base models by what may stand for them."""

    records: TenantRecords
    batcher: Batcher
    base_models: Mapping[str, str]

    async def answer(self, model: str, asked: Asked) -> Answered:
        """Answer every question. Raises `DomainError`, and what `classify_texts` and `classify_plainly` raise."""
        asked = replace(asked, text=_checked(asked))
        try:
            models = answering_models(model, asked.questions)
        except Unanswerable as error:
            raise DomainError(ErrorCode.INVALID_REQUEST, str(error), "/model") from error
        places: dict[str, list[int]] = {}
        for place, name in enumerate(models):
            places.setdefault(name, []).append(place)
        parts = await _together([self._answer(name, asked, some) for name, some in places.items()])
        answers = {place: answer for part in parts for place, answer in part.answers.items()}
        readings = tuple(reading for part in parts for reading in part.readings)
        return Answered(tuple(answers[place] for place in range(len(models))), readings)

    async def _answer(self, name: str, asked: Asked, places: Sequence[int]) -> _Part:
        """Answer the questions at ``places`` by what ``name`` names; a context reads the text once for all."""
        try:
            context, (scored,) = await classify_texts(self.records, self.batcher, name, "NONE", (asked.text,))
        except Refused as refused:
            raise _placed(refused, asked) from refused
        except DomainError as error:
            if error.code != ErrorCode.CONTEXT_NOT_FOUND:
                raise
            if (base := self.base_models.get(name)) is not None:
                return await self._answer_zero_shot(base, asked, places)
            text = f"there is no such context or model; GET /v1/models lists what `model` may be ({name[:100]})"
            raise DomainError(ErrorCode.MODEL_NOT_FOUND, text, "/model") from error
        answers = {place: _by_context(asked, place, context, scored) for place in places}
        return _Part(answers, [Reading(scored.tokens, context.tokens)])

    async def _answer_zero_shot(self, base: str, asked: Asked, places: Sequence[int]) -> _Part:
        """Answer the questions at ``places`` by a base model, which reads the text once for each that differs."""
        asking = {place: _as_plain(asked, place) for place in places if len(asked.questions[place].options) > 1}
        firsts: dict[str, int] = {}
        for place, plain in asking.items():
            firsts.setdefault(plain.address, place)
        read = await _together([self._read(base, asking[place], asked, place) for place in firsts.values()])
        found = dict(zip(firsts, read, strict=True))
        answers: dict[int, tuple[float, ...] | None] = {}
        for place in places:
            sure = place not in asking
            probabilities = _CERTAIN if sure else found[asking[place].address].scored[0].confidences
            answers[place] = _unless_below(asked.min_confidence, probabilities)
        return _Part(answers, [Reading(one.scored[0].tokens, one.context_tokens) for one in read])

    async def _read(self, base: str, plain: PlainContext, asked: Asked, place: int) -> Scores:
        try:
            return await classify_plainly(self.batcher, base, plain, "NONE", (asked.text,))
        except Refused as refused:
            raise _placed(refused, asked, f"/questions/{place}") from refused


async def _together(works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of ``works``, in their order; the first failure of any ends the others and is raised."""
    if len(works) == 1:  # most requests: nothing is to be gained by a task
        return [await works[0]]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed
    return [task.result() for task in tasks]


def _by_context(asked: Asked, place: int, context: Context, scored: Scored) -> tuple[float, ...] | None:
    """The probabilities of the options of the question at ``place``, None for an abstention."""
    try:
        places = label_indices(asked.questions[place], context.labels)
    except Unanswerable as error:
        raise DomainError(ErrorCode.LABEL_UNKNOWN, str(error), f"/questions/{place}") from error
    least = least_confidence(context.metadata) if asked.min_confidence is None else asked.min_confidence
    return _unless_below(least, renormalised(scored.confidences, places))


def _as_plain(asked: Asked, place: int) -> PlainContext:
    try:
        return as_plain_context(asked.questions[place], asked.instructions)
    except Unanswerable as error:
        raise DomainError(ErrorCode.INVALID_REQUEST, str(error), f"/questions/{place}") from error


def _unless_below(least: float | None, probabilities: tuple[float, ...]) -> tuple[float, ...] | None:
    return probabilities if max(probabilities) >= (least or 0.0) else None


def _placed(refused: Refused, asked: Asked, question: str | None = None) -> Exception:
    """A worker's refusal, with the place that it is about as the client knows it."""
    failure = refused.failure
    if failure.code == ErrorCode.INPUT_TOO_LONG:
        return DomainError(failure.code, failure.message.removeprefix("input 0 "), asked.param)
    if question is not None and failure.param == "/labels":
        return DomainError(failure.code, failure.message, question)
    return refused


def _checked(asked: Asked) -> str:
    try:
        return checked_text(asked.text)
    except Unanswerable as error:
        raise DomainError(ErrorCode.TEXT_INVALID, str(error), asked.param) from error
