"""The batcher: groups queries that wait for the same model into one message for a worker.

A request never waits for company: it leaves at once while the workers have room, and batches form from what arrives
while they have none. Requests take turns, so that one with a thousand inputs does not hold up others; those with few
need not wait for its batches at all, since a worker lets small batches pass.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from app.bus import Bus, DeadlineExceeded
from app.contract.batches import ClassifyBatch, ClassifyPart, ClassifyReply, Failure, PartReply, Scored, Truncate
from app.contract.names import CLASSIFY_TASK
from app.records.store import new_id

#: Inputs of a request that counts as small.
_FEW: Final = 8


class Overloaded(Exception):
    """Too many inputs wait for the model already."""


class Refused(Exception):
    """A worker could not classify a request, for the reason in ``failure``."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@dataclass(eq=False)
class _Request:
    """The inputs of one caller and the answers so far."""

    part: ClassifyPart
    expires_at: float
    answer: asyncio.Future[list[Scored]]
    scored: list[Scored | None]
    sent: int = 0
    missing: int = field(init=False)

    def __post_init__(self) -> None:
        self.missing = len(self.part.inputs)

    def take(self, count: int) -> tuple[int, ClassifyPart]:
        """The next ``count`` inputs as a part, and the position of its first."""
        start, self.sent = self.sent, min(self.sent + count, len(self.part.inputs))
        return start, self.part.model_copy(update={"first": start, "inputs": self.part.inputs[start : self.sent]})

    def receive(self, start: int, reply: PartReply) -> None:
        """Note the answers to the part that began at ``start``."""
        if self.answer.done():
            return
        if reply.failure is not None:
            self.answer.set_exception(Refused(reply.failure))
            return
        self.scored[start : start + len(reply.scored)] = reply.scored
        self.missing -= len(reply.scored)
        if self.missing == 0:
            self.answer.set_result([one for one in self.scored if one is not None])

    @property
    def small(self) -> bool:
        """Whether it may go ahead of others."""
        return len(self.part.inputs) <= _FEW

    @property
    def waiting(self) -> int:
        """Inputs not yet sent; none once the caller has gone."""
        return 0 if self.answer.done() else len(self.part.inputs) - self.sent


_Taken = tuple[_Request, int, ClassifyPart]


@dataclass
class _Line:
    """The requests that wait for one model, and the batches under way with whether they are small."""

    requests: deque[_Request] = field(default_factory=deque)
    batches: dict[asyncio.Task[None], bool] = field(default_factory=dict)

    @property
    def waiting(self) -> int:
        return sum(request.waiting for request in self.requests)


@dataclass
class Batcher:
    """Classifies through ``bus``.

    A message carries at most ``max_batch_inputs``; at most ``max_pending_inputs`` wait for a model; a request gets its
    answer or its failure within ``timeout`` seconds for each message that its inputs fill.
    """

    bus: Bus
    max_batch_inputs: int
    max_pending_inputs: int
    timeout: float
    _lines: dict[str, _Line] = field(init=False, default_factory=dict)

    def seconds_for(self, inputs: int) -> float:
        """How long a request with so many inputs may take."""
        return self.timeout * math.ceil(inputs / self.max_batch_inputs)

    async def classify(self, model: str, artifact: str, truncate: Truncate, inputs: Sequence[str]) -> list[Scored]:
        """Answers to ``inputs``, in their order.

        Raises `Overloaded` before anything is sent; `Refused` with a worker's reason; and what `Bus.call` raises.
        """
        line = self._lines.setdefault(model, _Line())
        if line.waiting + len(inputs) > self.max_pending_inputs:
            raise Overloaded(model)
        part = ClassifyPart(artifact=artifact, truncate=truncate, inputs=tuple(inputs))
        seconds = self.seconds_for(len(inputs))
        answer: asyncio.Future[list[Scored]] = asyncio.get_running_loop().create_future()
        line.requests.append(_Request(part, time.time() + seconds, answer, [None] * len(inputs)))
        self._dispatch(model, line)
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            raise DeadlineExceeded from None

    def _dispatch(self, model: str, line: _Line) -> None:
        """Send batches while inputs wait: one for each live worker to compute, and a full one to go on with.

        A second that is not full yet stays here, where what arrives meanwhile can join it. Small requests that would
        wait for the batches of others leave in one of their own, one for each live worker at a time.
        """
        workers = max(1, self.bus.live_workers(model))
        while waiting := line.waiting:
            small = [request for request in line.requests if request.small and request.waiting]
            if len(line.batches) < (2 * workers if waiting >= self.max_batch_inputs else workers):
                taken = self._take_turns(line, [request for request in line.requests if request.waiting])
            elif small and sum(line.batches.values()) < workers:
                taken = self._take_turns(line, small)
            else:
                return
            all_small = all(request.small for request, _, _ in taken)
            batch = asyncio.create_task(self._classify_batch(model, taken, small=all_small))
            line.batches[batch] = all_small
            batch.add_done_callback(line.batches.pop)
            batch.add_done_callback(lambda _: self._dispatch(model, line))

    def _take_turns(self, line: _Line, requests: Sequence[_Request]) -> list[_Taken]:
        """One batch: an equal share for each of ``requests``, in turn, until the batch is full.

        Those that still wait then come after the others in ``line``.
        """
        turns, among = deque(requests), set(requests)
        others = [request for request in line.requests if request.waiting and request not in among]
        batch: list[_Taken] = []
        room = self.max_batch_inputs
        share = max(1, room // len(turns))
        while room and turns:
            request = turns.popleft()
            start, part = request.take(min(share, room))
            batch.append((request, start, part))
            room -= len(part.inputs)
            if request.waiting:
                turns.append(request)
        line.requests = deque([*others, *turns])
        return batch

    async def _classify_batch(self, model: str, taken: Sequence[_Taken], *, small: bool) -> None:
        batch = ClassifyBatch(
            id=new_id("batch"),
            reply_to=self.bus.reply_channel,
            expires_at=max(request.expires_at for request, _, _ in taken),
            model=model,
            small=small,
            parts=tuple(part for _, _, part in taken),
        )
        try:
            reply = ClassifyReply.model_validate_json(await self.bus.call(CLASSIFY_TASK, batch))
            for (request, start, _), part_reply in zip(taken, reply.parts, strict=True):
                request.receive(start, part_reply)
        except Exception as error:  # noqa: BLE001 - whatever it is, each waiting caller must learn of it
            for request, _, _ in taken:
                if not request.answer.done():
                    request.answer.set_exception(error)
