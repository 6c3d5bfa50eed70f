"""Classification: from the parts of a batch to their answers. A part that fails does not touch the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import structlog
from torch import Tensor

from app.contract.batches import ClassifyBatch, ClassifyPart, Failure, PartReply, Scored, Truncate
from app.contract.names import ErrorCode
from worker.artifacts import ArtifactCorrupt
from worker.cpt.context import encode_query
from worker.cpt.features import features
from worker.cpt.scorer import score
from worker.cpt.template import Template
from worker.device import Device, out_of_memory
from worker.models import BaseModel
from worker.resident import Resident, ResidentContexts, UnusableContext

#: Probabilities of a query's labels.
_Confidences = tuple[float, ...]


class Expired(Exception):
    """Nobody waits for the answers any more."""


class _Refusal(Exception):
    def __init__(self, code: ErrorCode, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.failure = Failure(code=code, message=message, param=param)


@dataclass(frozen=True)
class _Query:
    text: str
    ids: list[int]
    truncated: bool


@dataclass(frozen=True)
class _Asked:
    """What a batch asks of one context: its parts, by their numbers, as queries or as why they cannot be."""

    resident: Resident
    parts: dict[int, list[_Query] | Failure]


def classify(
    base: BaseModel, resident_contexts: ResidentContexts, device: Device, batch: ClassifyBatch
) -> tuple[PartReply, ...]:
    """Answers to the parts of ``batch``, in their order. Queries of the same context are computed together.

    Before each pass of the model a small batch may pass one that is not, whole if its contexts fit in memory together.
    Raises `Expired` there, once the batch has expired, and `DeviceStopped`.
    """

    def between_passes() -> None:
        if not batch.small:
            device.let_small_query_pass()
        if time.time() > batch.expires_at:
            raise Expired

    by_artifact: dict[str, dict[int, ClassifyPart]] = {}
    for index, part in enumerate(batch.parts):
        by_artifact.setdefault(part.artifact, {})[index] = part

    def answer(group: dict[str, Resident | Exception]) -> dict[int, PartReply]:
        asked: list[_Asked] = []
        replies: dict[int, PartReply] = {}
        for artifact, found in group.items():
            parts = by_artifact[artifact]
            try:
                asked.append(_encode(base, found, parts))
            except Exception as error:  # noqa: BLE001 - whatever it is, each waiting caller must learn of it
                replies.update(_failed(parts, error))
        return replies | device.run_query(partial(_answer, base, asked, between_passes), small=batch.small)

    replies: dict[int, PartReply] = {}
    for answered in map(answer, resident_contexts.groups(by_artifact)):  # not a loop over groups, which would keep one
        replies.update(answered)
    return tuple(replies[index] for index in range(len(batch.parts)))


def _encode(base: BaseModel, found: Resident | Exception, parts: dict[int, ClassifyPart]) -> _Asked:
    if isinstance(found, Exception):
        raise found
    return _Asked(found, {index: _encode_part(base, found, part) for index, part in parts.items()})


def _answer(base: BaseModel, asked: Sequence[_Asked], before_pass: Callable[[], None]) -> dict[int, PartReply]:
    replies: dict[int, PartReply] = {}
    for one in asked:
        try:
            queries = [query for part in one.parts.values() if not isinstance(part, Failure) for query in part]
            confidences = iter(_confidences(base, one.resident, queries, before_pass))
            replies.update({index: _reply(part, confidences) for index, part in one.parts.items()})
        except Expired:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, each waiting caller must learn of it
            replies.update(_failed(one.parts, error))
    return replies


def _failed(parts: Iterable[int], error: Exception) -> dict[int, PartReply]:
    return dict.fromkeys(parts, PartReply(failure=_failure(error)))


def _reply(encoded: list[_Query] | Failure, confidences: Iterator[_Confidences]) -> PartReply:
    if isinstance(encoded, Failure):
        return PartReply(failure=encoded)
    return PartReply(
        scored=tuple(
            Scored(confidences=next(confidences), tokens=len(query.ids), truncated=query.truncated) for query in encoded
        )
    )


def _failure(error: Exception) -> Failure:
    match error:
        case FileNotFoundError():
            return Failure(code=ErrorCode.CONTEXT_NOT_FOUND, message="the context has been deleted")
        case ArtifactCorrupt() | UnusableContext():
            return Failure(code=ErrorCode.ARTIFACT_CORRUPT, message=f"the context's artifact cannot be used: {error}")
        case _ if out_of_memory(error):
            return Failure(code=ErrorCode.OUT_OF_MEMORY, message="the worker has not enough memory")
    structlog.get_logger().error("classification_failed", exc_info=error)
    return Failure(code=ErrorCode.INTERNAL, message="an unexpected error in the worker")


def _confidences(
    base: BaseModel, resident: Resident, queries: Sequence[_Query], before_pass: Callable[[], None]
) -> list[_Confidences]:
    """Probabilities over the labels, one row a query; what ``before_pass`` raises before one of the model ends it."""
    if not queries:
        return []
    ids, texts = [query.ids for query in queries], [query.text for query in queries]
    rows: list[list[float]] = probabilities(base, resident, ids, texts, before_pass).tolist()
    return [tuple(row) for row in rows]


def probabilities(
    base: BaseModel,
    resident: Resident,
    queries: Sequence[list[int]],
    texts: Sequence[str],
    before_pass: Callable[[], None],
) -> Tensor:
    """Probabilities (Q, L) float64 for queries as tokens and as texts; ``before_pass`` may raise."""
    scores = score(base.model, resident.prefix, resident.label_ids, queries, before_pass=before_pass)  # (Q, L)
    classifier = resident.classifier
    if classifier is None:
        return scores.double().softmax(dim=1)
    if classifier.head is None:
        return classifier.probabilities(scores)
    views = features(base.model, base.tokenizer, texts, base.context_length, before_pass)  # (V, Q, H)
    return classifier.probabilities(scores, views)


def _encode_part(base: BaseModel, resident: Resident, part: ClassifyPart) -> list[_Query] | Failure:
    room = base.context_length - resident.prefix.tokens - max(len(ids) for ids in resident.label_ids)
    try:
        return [
            _fit(base, resident.template, text, room, part.truncate, index)
            for index, text in enumerate(part.inputs, part.first)
        ]
    except _Refusal as refusal:
        return refusal.failure


def _fit(base: BaseModel, template: Template, text: str, room: int, truncate: Truncate, index: int) -> _Query:
    """The query of ``text``, cut to ``room`` tokens at the end that ``truncate`` names."""
    ids = encode_query(base.tokenizer, template, text)
    if len(ids) <= room:
        return _Query(text, ids, truncated=False)
    if truncate == "NONE":
        raise _too_long(len(ids), room, index)
    while text and len(ids) > room:
        keep = len(text) * room // (len(ids) + 1)  # characters; at least one fewer in each round
        text = text[:keep] if truncate == "END" else text[len(text) - keep :]
        ids = encode_query(base.tokenizer, template, text)
    if not text.strip():
        raise _too_long(len(ids), room, index)
    return _Query(text, ids, truncated=True)


def _too_long(tokens: int, room: int, index: int) -> _Refusal:
    message = f"input {index} has {tokens} tokens; the context leaves room for {room}"
    return _Refusal(ErrorCode.INPUT_TOO_LONG, message, f"/inputs/{index}")
