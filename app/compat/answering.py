"""How questions are answered: by the contexts or base models that the client's ``model`` names.

The same calls as ``/classify``. An answer depends on its own question and on the text alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from app.classification.batcher import Batcher
from app.classification.bus import Refused
from app.compat.questions import Question, Unanswerable, answering_models, label_indices, renormalised
from app.compat.zero_shot import as_plain_context, checked_text
from app.contexts.classifying import classify_plainly, classify_texts
from app.contract.messages import Scored
from app.contract.names import ErrorCode
from app.contract.objects import Context
from app.contract.plain import PlainContext
from app.errors import DomainError
from app.records.store import TenantRecords

#: The metadata of a context that says below which probability it abstains.
_MIN_CONFIDENCE: Final = "min_confidence"
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


@dataclass(frozen=True)
class Answering:
    """What answers a tenant: its contexts, and the base models by what may stand for them."""

    records: TenantRecords
    batcher: Batcher
    base_models: Mapping[str, str]

    async def answer(self, model: str, asked: Asked) -> Answered:
        """Answer every question. Raises `DomainError`, and what `classify_texts` and `classify_plainly` raise."""
        text = _checked(asked)
        try:
            models = answering_models(model, asked.questions)
        except Unanswerable as error:
            raise DomainError(ErrorCode.INVALID_REQUEST, str(error), "/model") from error
        try:
            async with asyncio.TaskGroup() as group:
                reader = _Reader(self, replace(asked, text=text), group)
                answers = [group.create_task(_answer(reader, asked, place, name)) for place, name in enumerate(models)]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed
        return Answered(tuple(answer.result() for answer in answers), tuple(reader.readings))


class _Reader:
    """Reads one text for many questions, once for each context and each question to a base model."""

    def __init__(self, answering: Answering, asked: Asked, group: asyncio.TaskGroup) -> None:
        self._answering = answering
        self._asked = asked
        self._group = group
        self._contexts: dict[str, asyncio.Task[tuple[Context, Scored] | str]] = {}
        self._plain: dict[tuple[str, str], asyncio.Task[Scored]] = {}
        self.readings: list[Reading] = []

    async def by_context(self, name: str) -> tuple[Context, Scored] | str:
        """What a context says of the text; the id of the base model where the name stands for one."""
        if name not in self._contexts:
            self._contexts[name] = self._group.create_task(self._ask_context(name))
        return await self._contexts[name]

    async def by_base_model(self, base: str, plain: PlainContext, place: int) -> Scored:
        """What a base model says of the text, asked the question at ``place``."""
        key = (base, plain.address)
        if key not in self._plain:
            self._plain[key] = self._group.create_task(self._ask_base_model(base, plain, place))
        return await self._plain[key]

    async def _ask_context(self, name: str) -> tuple[Context, Scored] | str:
        records, batcher = self._answering.records, self._answering.batcher
        try:
            context, (scored,) = await classify_texts(records, batcher, name, "NONE", (self._asked.text,))
        except Refused as refused:
            raise self._placed(refused) from refused
        except DomainError as error:
            if error.code != ErrorCode.CONTEXT_NOT_FOUND:
                raise
            if (base := self._answering.base_models.get(name)) is not None:
                return base
            text = f"there is no such context or model; GET /v1/models lists what `model` may be ({name[:100]})"
            raise DomainError(ErrorCode.MODEL_NOT_FOUND, text, "/model") from error
        self.readings.append(Reading(scored.tokens, context.tokens))
        return context, scored

    async def _ask_base_model(self, base: str, plain: PlainContext, place: int) -> Scored:
        try:
            answered = await classify_plainly(self._answering.batcher, base, plain, "NONE", (self._asked.text,))
        except Refused as refused:
            raise self._placed(refused, f"/questions/{place}") from refused
        (scored,) = answered.scored
        self.readings.append(Reading(scored.tokens, answered.context_tokens))
        return scored

    def _placed(self, refused: Refused, question: str | None = None) -> Exception:
        """A worker's refusal, with the place that it is about as the client knows it."""
        failure = refused.failure
        if failure.code == ErrorCode.INPUT_TOO_LONG:
            return DomainError(failure.code, failure.message.removeprefix("input 0 "), self._asked.param)
        if question is not None and failure.param == "/labels":
            return DomainError(failure.code, failure.message, question)
        return refused


async def _answer(reader: _Reader, asked: Asked, place: int, name: str) -> tuple[float, ...] | None:
    """The probabilities of the options of the question at ``place``, None for an abstention."""
    question, least = asked.questions[place], asked.min_confidence
    found = await reader.by_context(name)
    try:
        if isinstance(found, str):
            probabilities: tuple[float, ...] = _CERTAIN
            if len(question.options) > 1:
                plain = as_plain_context(question, asked.instructions)
                probabilities = (await reader.by_base_model(found, plain, place)).confidences
        else:
            context, scored = found
            probabilities = renormalised(scored.confidences, label_indices(question, context.labels))
            least = _least_confidence(context.metadata) if least is None else least
    except Unanswerable as error:
        code = ErrorCode.INVALID_REQUEST if isinstance(found, str) else ErrorCode.LABEL_UNKNOWN
        raise DomainError(code, str(error), f"/questions/{place}") from error
    return probabilities if max(probabilities) >= (least or 0.0) else None


def _checked(asked: Asked) -> str:
    try:
        return checked_text(asked.text)
    except Unanswerable as error:
        raise DomainError(ErrorCode.TEXT_INVALID, str(error), asked.param) from error


def _least_confidence(metadata: Mapping[str, str]) -> float:
    try:
        return float(metadata.get(_MIN_CONFIDENCE, "0"))
    except ValueError:
        return 0.0
