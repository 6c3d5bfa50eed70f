"""How questions are answered: by the contexts that the client's ``model`` names, each asked once about the text.

The same calls as ``/classify``. An answer depends on its own question and on the text alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from app.classification.batcher import Batcher
from app.compat.questions import Question, Unanswerable, answering_models, label_indices, renormalised
from app.contexts.classifying import classify_texts
from app.contract.messages import Scored
from app.contract.names import ErrorCode
from app.contract.objects import Context
from app.errors import DomainError
from app.records.store import TenantRecords

#: The metadata of a context that says below which probability it abstains.
_MIN_CONFIDENCE: Final = "min_confidence"


@dataclass(frozen=True)
class Answered:
    """The answers to questions about one text: the probabilities of each question's options, None for an abstention.

    ``contexts`` answered, each with the tokens of the text as it read them.
    """

    probabilities: tuple[tuple[float, ...] | None, ...]
    contexts: tuple[tuple[Context, int], ...]

    @property
    def tokens(self) -> int:
        """Tokens of the text, counted once for each context."""
        return sum(tokens for _, tokens in self.contexts)


async def answer_questions(
    records: TenantRecords,
    batcher: Batcher,
    model: str,
    text: str,
    questions: Sequence[Question],
    min_confidence: float | None = None,
) -> Answered:
    """Answer every question about ``text``.

    ``min_confidence`` None leaves abstention to the contexts' metadata. Raises `DomainError`, and what `classify_texts`
    raises.
    """
    try:
        models = answering_models(model, questions)
    except Unanswerable as error:
        raise DomainError(ErrorCode.INVALID_REQUEST, str(error), "/model") from error
    asked = list(dict.fromkeys(models))
    found = await asyncio.gather(*(_ask(records, batcher, one, text) for one in asked))
    by_model = dict(zip(asked, found, strict=True))
    answers = tuple(
        _answer(question, place, *by_model[one], min_confidence)
        for place, (question, one) in enumerate(zip(questions, models, strict=True))
    )
    return Answered(answers, tuple((context, scored.tokens) for context, scored in found))


async def _ask(records: TenantRecords, batcher: Batcher, model: str, text: str) -> tuple[Context, Scored]:
    try:
        context, (scored,) = await classify_texts(records, batcher, model, "NONE", (text,))
    except DomainError as error:
        if error.code == ErrorCode.CONTEXT_NOT_FOUND:
            text = "there is no such context; `model` is the id, the name, name@version or name@alias of a context"
            raise DomainError(ErrorCode.MODEL_NOT_FOUND, text, "/model") from error
        raise
    return context, scored


def _answer(
    question: Question, place: int, context: Context, scored: Scored, min_confidence: float | None
) -> tuple[float, ...] | None:
    try:
        places = label_indices(question, context.labels)
    except Unanswerable as error:
        raise DomainError(ErrorCode.LABEL_UNKNOWN, str(error), f"/questions/{place}") from error
    least = _least_confidence(context.metadata) if min_confidence is None else min_confidence
    probabilities = renormalised(scored.confidences, places)
    return probabilities if max(probabilities) >= least else None


def _least_confidence(metadata: Mapping[str, str]) -> float:
    try:
        return float(metadata.get(_MIN_CONFIDENCE, "0"))
    except ValueError:
        return 0.0
