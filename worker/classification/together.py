"""Batches that wait for the device: the first to be computed takes those along that wait for the same model.

Small batches and others each go with their own kind. What a batch is answered does not depend, but for rounding, on
its company.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

import structlog

from app.contract.messages import Failure, PartReply, Scored
from app.contract.names import ErrorCode
from worker.artifacts import ArtifactCorrupt
from worker.classification.queries import Query
from worker.classification.resident import ModelChanged, Resident, UnusableContext
from worker.cpt.formats.bundle import NewerFormat
from worker.device import Device, out_of_memory, unusable_after
from worker.models import LanguageModel


class Expired(Exception):
    """Nobody waits for the answers any more."""


@dataclass
class Stopwatch:
    """How long (seconds) a batch was computed on the device, and when first and last, on the monotonic clock.

    Of what it was computed together with, it has its share by queries.
    """

    seconds: float = 0.0
    began: float = math.inf
    ended: float = 0.0

    def note(self, began: float, ended: float, share: float) -> None:
        """Add a stretch of time and the batch's share of it."""
        self.began, self.ended = min(self.began, began), max(self.ended, ended)
        self.seconds += share * (ended - began)


@dataclass(frozen=True)
class Asked:
    """What a batch asks of one context: its parts, by their numbers, as queries or as why they cannot be.

    exact: whether all labels are to be scored.
    """

    resident: Resident
    exact: bool
    parts: dict[int, list[Query] | Failure]
    request_ids: tuple[str, ...]

    @property
    def queries(self) -> list[Query]:
        """All of its queries, part after part."""
        return [query for part in self.parts.values() if not isinstance(part, Failure) for query in part]


@dataclass(eq=False)
class _Share:
    """A batch that waits, and what became of it."""

    asked: Sequence[Asked]
    small: bool
    deadline: float
    replies: dict[int, PartReply] = field(default_factory=dict)
    taken: tuple[float, float, float] = (math.inf, 0.0, 0.0)  # began, ended, and its share of the time
    error: BaseException | None = None

    @property
    def queries(self) -> int:
        return sum(len(one.queries) for one in self.asked)


@dataclass(frozen=True)
class _Turn:
    """Lets a small batch go ahead of one that is not small, and ends one that nobody waits for any more."""

    device: Device
    small: bool
    deadline: float

    def offer(self, _: float | None = None, /) -> None:
        if not self.small:
            self.device.let_small_query_pass()
        if time.monotonic() > self.deadline:
            raise Expired


class Together:
    """What waits for one model on ``device``. Safe to use from any thread."""

    def __init__(self, device: Device) -> None:
        self._device: Final = device
        self._waiting: dict[bool, list[_Share]] = {True: [], False: []}
        self._lock = Lock()

    def answer(
        self, base: LanguageModel, asked: Sequence[Asked], *, small: bool, deadline: float, watch: Stopwatch
    ) -> dict[int, PartReply]:
        """Answers to the parts that are asked, by their numbers, when their turn has come or that of others before.

        Raises `Expired` after ``deadline`` on the monotonic clock, and `DeviceStopped`.
        """
        mine = _Share(asked, small, deadline)
        waiting = self._waiting[small]
        with self._lock:
            waiting.append(mine)
        try:
            self._device.run_query(lambda: self._compute(base, mine), small=small)
        finally:
            with self._lock:
                if mine in waiting:
                    waiting.remove(mine)
        if mine.error is not None:
            raise mine.error
        watch.note(*mine.taken)
        return mine.replies

    def _compute(self, base: LanguageModel, mine: _Share) -> None:
        """Answer all that wait, unless others have taken this one along."""
        with self._lock:
            waiting = self._waiting[mine.small]
            if mine not in waiting:
                return
            shares = list(waiting)
            waiting.clear()
        began, queries = time.monotonic(), max(1, sum(share.queries for share in shares))
        try:
            _answer(base, shares, _Turn(self._device, mine.small, max(share.deadline for share in shares)))
        except BaseException as error:
            for share in shares:
                share.error = None if share is mine else error
            raise
        finally:
            ended = time.monotonic()
            for share in shares:
                share.taken = began, ended, share.queries / queries


def _answer(base: LanguageModel, shares: Sequence[_Share], turn: _Turn) -> None:
    """Give each share its replies; queries of the same context are computed at once, whoever asks."""
    groups: dict[tuple[int, bool], list[tuple[_Share, Asked]]] = {}
    for share in shares:
        for one in share.asked:
            groups.setdefault((id(one.resident), one.exact), []).append((share, one))
    for group in groups.values():
        resident, exact = group[0][1].resident, group[0][1].exact
        try:
            queries = [query for _, one in group for query in one.queries]
            confidences = iter(_confidences(base, resident, queries, exact, turn))
            for share, one in group:
                tokens = resident.predictor.tokens
                for index, part in one.parts.items():
                    share.replies[index] = _reply(part, confidences, tokens)
        except Expired:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, each waiting caller must learn of it
            failure = failure_of(error, tuple(one_id for _, one in group for one_id in one.request_ids))
            for share, one in group:
                share.replies.update(failed(one.parts, failure))


def _confidences(
    base: LanguageModel, resident: Resident, queries: Sequence[Query], exact: bool, turn: _Turn
) -> list[tuple[float, ...]]:
    """Probabilities over the labels, one row a query."""
    if not queries:
        return []
    ids, texts = [query.ids for query in queries], [query.text for query in queries]
    predict = resident.predictor.probabilities
    rows: list[list[float]] = predict(base.model, ids, texts, exact=exact, turn=turn).tolist()
    return [tuple(row) for row in rows]


def failed(parts: Iterable[int], failure: Failure) -> dict[int, PartReply]:
    """The same failure for each of these parts."""
    return dict.fromkeys(parts, PartReply(failure=failure))


def _reply(encoded: list[Query] | Failure, confidences: Iterable[tuple[float, ...]], tokens: int) -> PartReply:
    if isinstance(encoded, Failure):
        return PartReply(failure=encoded)
    rows = iter(confidences)
    return PartReply(
        context_tokens=tokens,
        scored=tuple(
            Scored(confidences=next(rows), tokens=len(query.ids), truncated=query.truncated) for query in encoded
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
