"""The batcher: groups queries that wait for the same model into one message for a worker.

A request never waits for company: it leaves at once while the workers have room, and batches form from what arrives
while they have none. Requests take turns, so that one with a thousand inputs does not hold up others. Small ones do not
even wait for the batches of large ones: they have batches of their own, which a worker lets pass.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import structlog

from app.classification.bus import Bus, DeadlineExceeded, Refused
from app.contract.messages import ClassifyBatch, ClassifyPart, ClassifyReply, PartReply, Scored, Truncate
from app.records.store import new_id

#: Inputs of a small request, and their characters in all, at most: what a few passes of the model take.
_FEW_INPUTS: Final = 8
_FEW_CHARACTERS: Final = 4096
#: Inputs that the timeout holds for: more may take as many times as long.
_INPUTS_IN_TIME: Final = 64


class Overloaded(Exception):
    """Too many inputs wait for the model already."""


@dataclass(eq=False)
class _Request:
    """One caller's inputs and the answers so far; ``unsent`` inputs still wait, none once the caller has gone.

    ``deadline`` is on the monotonic clock.
    """

    part: ClassifyPart
    deadline: float
    answer: asyncio.Future[list[Scored]]
    scored: list[Scored | None] = field(init=False)
    unsent: int = field(init=False)
    missing: int = field(init=False)

    def __post_init__(self) -> None:
        self.unsent = self.missing = len(self.part.inputs)
        self.scored = [None] * self.missing

    @property
    def small(self) -> bool:
        """Whether it may go ahead of others."""
        inputs = self.part.inputs
        return len(inputs) <= _FEW_INPUTS and sum(map(len, inputs)) <= _FEW_CHARACTERS

    def take(self, count: int) -> _Contribution:
        """The next ``count`` inputs as a part, or all that there are."""
        start = len(self.part.inputs) - self.unsent
        inputs = self.part.inputs[start : start + count]
        self.unsent -= len(inputs)
        return _Contribution(self, self.part.model_copy(update={"first": start, "inputs": inputs}))

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


class _Contribution(NamedTuple):
    """What a request contributes to a batch."""

    request: _Request
    part: ClassifyPart


@dataclass
class _Line:
    """Requests that wait, in turn, with ``waiting`` inputs in all, and the batches of them that are under way."""

    requests: deque[_Request] = field(default_factory=deque)
    waiting: int = 0
    batches: set[asyncio.Task[None]] = field(default_factory=set)

    def add(self, request: _Request) -> None:
        """Let a request wait until all its inputs are sent or its caller has gone."""
        self.requests.append(request)
        self.waiting += request.unsent
        request.answer.add_done_callback(lambda _: self._drop(request))

    def take(self, room: int) -> list[_Contribution]:
        """One batch: an equal share for each request, in turn, until ``room`` inputs are taken.

        A small request is taken whole if it fits, for in parts it would wait for as many batches.
        """
        share = max(1, room // len(self.requests))
        batch: list[_Contribution] = []
        while room and self.requests:
            request = self.requests.popleft()
            taken = request.take(room if request.small else min(share, room))
            batch.append(taken)
            room -= len(taken.part.inputs)
            self.waiting -= len(taken.part.inputs)
            if request.unsent and request.small:
                self.requests.appendleft(request)
            elif request.unsent:
                self.requests.append(request)
        return batch

    def _drop(self, request: _Request) -> None:
        if request.unsent:
            self.requests.remove(request)
            self.waiting -= request.unsent
            request.unsent = 0


@dataclass
class _Lines:
    """All that waits for one model, small requests apart."""

    small: _Line = field(default_factory=_Line)
    large: _Line = field(default_factory=_Line)


@dataclass
class Batcher:
    """Classifies through ``bus``.

    A message carries at most ``max_batch_inputs``; at most ``max_pending_inputs`` of small requests wait for a model,
    and as many of large ones; a request gets its answer or its failure within ``timeout`` seconds for each 64 inputs.
    """

    bus: Bus
    max_batch_inputs: int
    max_pending_inputs: int
    timeout: float
    _models: dict[str, _Lines] = field(init=False, default_factory=dict)

    def seconds_for(self, inputs: int) -> float:
        """How long a request with so many inputs may take."""
        return self.timeout * math.ceil(inputs / _INPUTS_IN_TIME)

    async def classify(self, model: str, artifact: str, truncate: Truncate, inputs: Sequence[str]) -> list[Scored]:
        """Answers to ``inputs``, in their order.

        Raises `Overloaded` before anything is sent; `Refused` with a worker's reason; and what `Bus.call` raises. Once
        cancelled, it sends no more of them.
        """
        lines = self._models.setdefault(model, _Lines())
        request_id = structlog.contextvars.get_contextvars().get("request_id")
        part = ClassifyPart(artifact=artifact, truncate=truncate, inputs=tuple(inputs), request_id=request_id)
        seconds = self.seconds_for(len(inputs))
        request = _Request(part, time.monotonic() + seconds, asyncio.get_running_loop().create_future())
        line = lines.small if request.small else lines.large
        if line.waiting + len(inputs) > self.max_pending_inputs:
            raise Overloaded(model)
        line.add(request)
        self._dispatch(model, lines)
        try:
            async with asyncio.timeout(seconds):
                return await request.answer
        except TimeoutError:
            raise DeadlineExceeded from None

    def _dispatch(self, model: str, lines: _Lines) -> None:
        """Send batches while inputs wait: one for each live worker to compute, and a full one to go on with.

        A second that is not full yet stays here, where what arrives meanwhile can join it. Each of the two lines has
        these batches. Small ones that large ones have to let pass are a quarter as large.
        """
        workers = max(1, self.bus.live_workers(model))
        for line in (lines.small, lines.large):
            while line.waiting:
                full = line.waiting >= self.max_batch_inputs
                if len(line.batches) >= (2 * workers if full else workers):
                    break
                passing = line is lines.small and lines.large.batches
                taken = line.take(max(1, self.max_batch_inputs // 4) if passing else self.max_batch_inputs)
                batch = asyncio.create_task(self._classify_batch(model, taken, small=line is lines.small))
                line.batches.add(batch)
                batch.add_done_callback(line.batches.discard)
                batch.add_done_callback(lambda _: self._dispatch(model, lines))

    async def _classify_batch(self, model: str, taken: Sequence[_Contribution], *, small: bool) -> None:
        batch = ClassifyBatch(
            id=new_id("batch"),
            reply_to=self.bus.reply_channel,
            model=model,
            small=small,
            parts=tuple(one.part for one in taken),
        )
        seconds = max(one.request.deadline for one in taken) - time.monotonic()
        try:
            reply = ClassifyReply.model_validate_json(await self.bus.call(batch, seconds))
            for (request, part), part_reply in zip(taken, reply.parts, strict=True):
                request.receive(part.first, part_reply)
        except Exception as error:  # noqa: BLE001 - whatever it is, each waiting caller must learn of it
            for request, _ in taken:
                if not request.answer.done():
                    request.answer.set_exception(error)
