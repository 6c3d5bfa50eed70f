"""Classification: from the parts of a batch to their answers. A part that fails does not touch the others."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from app.contract.messages import ClassifyBatch, ClassifyPart, Failure, PartReply
from app.contract.names import ErrorCode
from worker.classification.queries import Query, TooLong, queries_of
from worker.classification.resident import CannotClassify, Resident, ResidentContexts
from worker.classification.together import Asked, Expired, Stopwatch, Together, failed, failure_of
from worker.device import DeviceStopped
from worker.models import LanguageModel


def classify(
    base: LanguageModel,
    resident_contexts: ResidentContexts,
    together: Together,
    batch: ClassifyBatch,
    deadline: float = math.inf,
    stopwatch: Stopwatch | None = None,
) -> tuple[PartReply, ...]:
    """Answers to the parts of ``batch``, in their order. Queries of the same context are computed together.

    Before each pass of the model a small batch may pass one that is not, with as many contexts as fit in the share of
    memory that a batch may hold. Raises `Expired` after ``deadline`` on the monotonic clock, and `DeviceStopped`.
    """
    watch = stopwatch or Stopwatch()
    replies: dict[int, PartReply] = {}
    asked: list[Asked] = []

    def answer() -> None:
        if asked:
            several = tuple(asked)
            asked.clear()
            replies.update(together.answer(base, several, small=batch.small, deadline=deadline, watch=watch))

    for (artifact, exact), parts in _by_context(batch.parts).items():
        if time.monotonic() > deadline:
            raise Expired
        find = partial(resident_contexts.get, artifact, batch.plain.get(artifact))
        one = _ask(base, find, parts, exact=exact)
        if isinstance(one, Failure):
            replies.update(failed(parts, one))
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
) -> Asked | Failure:
    try:
        resident = find()
        encoded = {index: _encode_part(base, resident, part) for index, part in parts.items()}
        return Asked(resident, exact, encoded, _request_ids(parts.values()))
    except DeviceStopped:
        raise
    except CannotClassify as error:
        return error.failure
    except Exception as error:  # noqa: BLE001 - whatever it is, each waiting caller must learn of it
        return failure_of(error, _request_ids(parts.values()))


def _request_ids(parts: Iterable[ClassifyPart]) -> tuple[str, ...]:
    return tuple({part.request_id: None for part in parts if part.request_id})


def _encode_part(base: LanguageModel, resident: Resident, part: ClassifyPart) -> list[Query] | Failure:
    queries: list[Query] = []
    for index, query in enumerate(queries_of(base, resident, part.inputs, part.truncate), part.first):
        if isinstance(query, TooLong):
            return Failure(code=ErrorCode.INPUT_TOO_LONG, message=f"input {index} {query}", param=f"/inputs/{index}")
        queries.append(query)
    return queries
