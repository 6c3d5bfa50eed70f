"""Classification: from the parts of a batch to their answers. A part that fails does not touch the others."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import structlog

from app.contract.messages import ClassifyBatch, ClassifyPart, Failure, PartReply, Scored
from app.contract.names import ErrorCode
from worker.artifacts import ArtifactCorrupt
from worker.classification.queries import Query, TooLong, queries_of
from worker.classification.resident import (
    CannotClassify,
    ModelChanged,
    Resident,
    ResidentContexts,
    UnusableContext,
)
from worker.cpt.formats.bundle import NewerFormat
from worker.cpt.turn import Turn
from worker.device import Device, DeviceStopped, out_of_memory, unusable_after
from worker.models import LanguageModel

T = TypeVar("T")
#: Probabilities of a query's labels.
_Confidences = tuple[float, ...]


class Expired(Exception):
    """Nobody waits for the answers any more."""


@dataclass(frozen=True)
class _BatchTurn:
    """Lets a small batch go ahead of one that is not small, and ends one that nobody waits for any more."""

    device: Device
    small: bool
    deadline: float

    def offer(self, _: float | None = None, /) -> None:
        if not self.small:
            self.device.let_small_query_pass()
        self.check_in_time()

    def check_in_time(self) -> None:
        if time.monotonic() > self.deadline:
            raise Expired


@dataclass
class Stopwatch:
    """How long (seconds) a batch was computed on the device, and when first and last, on the monotonic clock."""

    seconds: float = 0.0
    began: float = math.inf
    ended: float = 0.0

    def time(self, compute: Callable[[], T]) -> T:
        """Return what ``compute`` does, and add how long that took."""
        began = time.monotonic()
        try:
            return compute()
        finally:
            self.began, self.ended = min(self.began, began), time.monotonic()
            self.seconds += self.ended - began


@dataclass(frozen=True)
class _Asked:
    """What a batch asks of one context: its parts, by their numbers, as queries or as why they cannot be.

    exact: whether all labels are to be scored.
    """

    resident: Resident
    exact: bool
    parts: dict[int, list[Query] | Failure]
    request_ids: tuple[str, ...]


def classify(
    base: LanguageModel,
    resident_contexts: ResidentContexts,
    device: Device,
    batch: ClassifyBatch,
    deadline: float = math.inf,
    stopwatch: Stopwatch | None = None,
) -> tuple[PartReply, ...]:
    """Answers to the parts of ``batch``, in their order. Queries of the same context are computed together.

    Before each pass of the model a small batch may pass one that is not, with as many contexts as fit in the share of
    memory that a batch may hold. Raises `Expired` after ``deadline`` on the monotonic clock, and `DeviceStopped`.
    """
    turn, watch = _BatchTurn(device, batch.small, deadline), stopwatch or Stopwatch()
    replies: dict[int, PartReply] = {}
    asked: list[_Asked] = []

    def answer() -> None:
        if asked:
            compute = partial(watch.time, partial(_answer, base, asked, turn))
            replies.update(device.run_query(compute, small=batch.small))
            asked.clear()

    for (artifact, exact), parts in _by_context(batch.parts).items():
        turn.check_in_time()
        find = partial(resident_contexts.get, artifact, batch.plain.get(artifact))
        one = _ask(base, find, parts, exact=exact)
        if isinstance(one, Failure):
            replies.update(_failed(parts, one))
            continue
        if sum(other.resident.nbytes for other in [*asked, one]) > resident_contexts.share:
            answer()
        asked.append(one)
    answer()
    return tuple(replies[index] for index in range(len(batch.parts)))


def _by_context(parts: Sequence[ClassifyPart]) -> dict[tuple[str, bool], dict[int, ClassifyPart]]:
    """The parts by artifact, those that want all labels scored apart."""
    found: dict[tuple[str, bool], dict[int, ClassifyPart]] = {}
    for index, part in enumerate(parts):
        found.setdefault((part.artifact, part.exact), {})[index] = part
    return found


def _ask(
    base: LanguageModel, find: Callable[[], Resident], parts: dict[int, ClassifyPart], *, exact: bool
) -> _Asked | Failure:
    try:
        resident = find()
        encoded = {index: _encode_part(base, resident, part) for index, part in parts.items()}
        return _Asked(resident, exact, encoded, _request_ids(parts.values()))
    except DeviceStopped:
        raise
    except CannotClassify as error:
        return error.failure
    except Exception as error:  # noqa: BLE001 - whatever it is, each waiting caller must learn of it
        return failure_of(error, _request_ids(parts.values()))


def _request_ids(parts: Iterable[ClassifyPart]) -> tuple[str, ...]:
    return tuple({part.request_id: None for part in parts if part.request_id})


def _answer(base: LanguageModel, asked: Sequence[_Asked], turn: Turn) -> dict[int, PartReply]:
    replies: dict[int, PartReply] = {}
    for one in asked:
        try:
            queries = [query for part in one.parts.values() if not isinstance(part, Failure) for query in part]
            confidences, tokens = iter(_confidences(base, one, queries, turn)), one.resident.predictor.tokens
            replies.update({index: _reply(part, confidences, tokens) for index, part in one.parts.items()})
        except Expired:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, each waiting caller must learn of it
            replies.update(_failed(one.parts, failure_of(error, one.request_ids)))
    return replies


def _failed(parts: Iterable[int], failure: Failure) -> dict[int, PartReply]:
    return dict.fromkeys(parts, PartReply(failure=failure))


def _reply(encoded: list[Query] | Failure, confidences: Iterator[_Confidences], tokens: int) -> PartReply:
    if isinstance(encoded, Failure):
        return PartReply(failure=encoded)
    return PartReply(
        context_tokens=tokens,
        scored=tuple(
            Scored(confidences=next(confidences), tokens=len(query.ids), truncated=query.truncated) for query in encoded
        ),
    )


def failure_of(error: Exception, request_ids: Sequence[str]) -> Failure:
    """What those who wait are told; raises ``error`` again where this process can answer nobody any more."""
    if unusable_after(error):
        raise error
    match error:
        case FileNotFoundError():
            return Failure(code=ErrorCode.CONTEXT_NOT_FOUND, message="the context has been deleted")
        case ArtifactCorrupt() | UnusableContext():
            return Failure(code=ErrorCode.ARTIFACT_CORRUPT, message=f"the context's artifact cannot be used: {error}")
        case NewerFormat():
            return Failure(code=ErrorCode.FORMAT_UNSUPPORTED, message=f"the context cannot be used: {error}")
        case ModelChanged():
            return Failure(code=ErrorCode.MODEL_CHANGED, message=str(error))
        case _ if out_of_memory(error):
            return Failure(code=ErrorCode.OUT_OF_MEMORY, message="the worker has not enough memory")
    structlog.get_logger().error("classification_failed", request_ids=request_ids, exc_info=error)
    return Failure(code=ErrorCode.INTERNAL, message="an unexpected error in the worker")


def _confidences(base: LanguageModel, asked: _Asked, queries: Sequence[Query], turn: Turn) -> list[_Confidences]:
    """Probabilities over the labels, one row a query."""
    if not queries:
        return []
    ids, texts = [query.ids for query in queries], [query.text for query in queries]
    predict = asked.resident.predictor.probabilities
    rows: list[list[float]] = predict(base.model, base.encoder, ids, texts, exact=asked.exact, turn=turn).tolist()
    return [tuple(row) for row in rows]


def _encode_part(base: LanguageModel, resident: Resident, part: ClassifyPart) -> list[Query] | Failure:
    queries: list[Query] = []
    for index, query in enumerate(queries_of(base, resident, part.inputs, part.truncate), part.first):
        if isinstance(query, TooLong):
            return Failure(code=ErrorCode.INPUT_TOO_LONG, message=f"input {index} {query}", param=f"/inputs/{index}")
        queries.append(query)
    return queries
