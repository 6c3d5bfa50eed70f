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

from app.classification.admission import Admission, Load
from app.classification.bus import (
    Bus,
    BusUnavailable,
    DeadlineExceeded,
    ModelUnsupported,
    NoWorker,
    Refused,
    WorkerLost,
)
from app.contract.messages import ClassifyBatch, ClassifyPart, ClassifyReply, PartReply, Scored, Truncate
from app.records.connection import new_id
from app.telemetry.metrics import Metrics

#: Inputs of a small request, and their characters in all, at most: what a few passes of the model take.
_FEW_INPUTS: Final = 8
_FEW_CHARACTERS: Final = 4096
#: Inputs that the timeout holds for: more may take as many times as long.
_INPUTS_IN_TIME: Final = 64
#: How long a worker has to make a context ready before an alias moves to it.
_RESIDENT_SECONDS: Final = 10.0
#: A small request whose wait was misjudged is refused once it has waited so many times the longest wait.
_MISJUDGED: Final = 1.5


@dataclass(eq=False)
class _Request:
    """One caller's inputs and the answers so far; ``unsent`` inputs still wait, none once the caller has gone.

    ``arrived`` and ``deadline`` are on the monotonic clock.
    """

    part: ClassifyPart
    arrived: float
    deadline: float
    answer: asyncio.Future[list[Scored]]
    load: Load = field(init=False)
    scored: list[Scored | None] = field(init=False)
    unsent: int = field(init=False)
    missing: int = field(init=False)

    def __post_init__(self) -> None:
        inputs = self.part.inputs
        self.load = Load(len(inputs), sum(len(text.encode()) for text in inputs))
        self.unsent = self.missing = len(inputs)
        self.scored = [None] * self.missing

    @property
    def small(self) -> bool:
        """Whether it may go ahead of others."""
        inputs = self.part.inputs
        return len(inputs) <= _FEW_INPUTS and sum(map(len, inputs)) <= _FEW_CHARACTERS

    @property
    def begun(self) -> bool:
        """Whether any of it was sent."""
        return self.unsent < self.load.inputs

    def take(self, count: int) -> _Contribution:
        """The next ``count`` inputs as a part, or all that there are."""
        start = len(self.part.inputs) - self.unsent
        inputs = self.part.inputs[start : start + count]
        self.unsent -= len(inputs)
        load = self.load if len(inputs) == self.load.inputs else Load(len(inputs), sum(map(_bytes, inputs)))
        return _Contribution(self, self.part.model_copy(update={"first": start, "inputs": inputs}), load)

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


def _bytes(text: str) -> int:
    return len(text.encode())


class _Contribution(NamedTuple):
    """What a request contributes to a batch."""

    request: _Request
    part: ClassifyPart
    load: Load


@dataclass
class _Line:
    """Requests that wait, in turn, what they weigh in all, and the batches of them that are under way."""

    admission: Admission
    requests: deque[_Request] = field(default_factory=deque)
    waiting: Load = field(default_factory=Load)
    batches: set[asyncio.Task[None]] = field(default_factory=set)

    def add(self, request: _Request) -> None:
        """Let a request wait until all its inputs are sent or its caller has gone."""
        self.requests.append(request)
        self.waiting += request.load
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
            room -= taken.load.inputs
            self.waiting -= taken.load
            if request.unsent and request.small:
                self.requests.appendleft(request)
            elif request.unsent:
                self.requests.append(request)
        return batch

    def refuse_unbegun(self, request: _Request, seconds: float) -> None:
        """Refuse a request whose turn did not come within ``seconds`` or a little more."""
        if not request.answer.done() and not request.begun:
            request.answer.set_exception(self.admission.misjudged(request.load, self.waiting, seconds))

    def _drop(self, request: _Request) -> None:
        if request.unsent:
            self.requests.remove(request)
            inputs = request.part.inputs[-request.unsent :]
            self.waiting -= Load(len(inputs), sum(map(_bytes, inputs)))
            request.unsent = 0


@dataclass
class _Lines:
    """All that waits for one model, small requests apart."""

    small: _Line
    large: _Line


@dataclass
class Batcher:
    """Classifies through ``bus``.

    A message carries at most ``max_batch_inputs``. What waits for a model is at most ``most`` of small requests, each
    for ``max_wait`` seconds, and as much of large ones, each for as long as it may take at all. A request gets its
    answer or its failure within ``timeout`` seconds for each 64 inputs.
    """

    bus: Bus
    max_batch_inputs: int
    most: Load
    max_wait: float
    timeout: float
    metrics: Metrics
    _models: dict[str, _Lines] = field(init=False, default_factory=dict)

    def waiting_inputs(self, model: str) -> int:
        """How many inputs wait here for ``model``."""
        lines = self._models.get(model)
        return lines.small.waiting.inputs + lines.large.waiting.inputs if lines else 0

    def seconds_for(self, inputs: int) -> float:
        """How long a request with so many inputs may take."""
        return self.timeout * math.ceil(inputs / _INPUTS_IN_TIME)

    async def classify(
        self, model: str, artifact: str, truncate: Truncate, inputs: Sequence[str], *, exact: bool = False
    ) -> list[Scored]:
        """Answers to ``inputs``, in their order; with ``exact`` all labels are scored.

        Raises `Overloaded` before anything is sent; `Refused` with a worker's reason; and what `Bus.call` raises. Once
        cancelled, it sends no more of them.
        """
        request_id = structlog.contextvars.get_contextvars().get("request_id")
        part = ClassifyPart(
            artifact=artifact, truncate=truncate, exact=exact, inputs=tuple(inputs), request_id=request_id
        )
        seconds = self.seconds_for(len(inputs))
        now = time.monotonic()
        request = _Request(part, now, now + seconds, asyncio.get_running_loop().create_future())
        lines = self._lines(model)
        line = lines.small if request.small else lines.large
        wait = min(self.max_wait, seconds) if request.small else seconds
        line.admission.admit(request.load, line.waiting, wait)
        line.add(request)
        self._dispatch(model, lines)
        give_up = asyncio.get_running_loop().call_later(_MISJUDGED * wait, line.refuse_unbegun, request, wait)
        try:
            async with asyncio.timeout(seconds):
                return await request.answer
        except TimeoutError:
            raise DeadlineExceeded from None
        finally:
            give_up.cancel()

    async def make_resident(self, model: str, artifact: str) -> bool:
        """Let a worker make a context ready to answer; False when none has after `_RESIDENT_SECONDS`."""
        part = ClassifyPart(artifact=artifact, truncate="NONE", inputs=())
        batch = ClassifyBatch(
            id=new_id("batch"), reply_to=self.bus.reply_channel, model=model, small=True, parts=(part,)
        )
        try:
            reply = ClassifyReply.model_validate_json(await self.bus.call(batch, _RESIDENT_SECONDS))
        except (BusUnavailable, DeadlineExceeded, ModelUnsupported, NoWorker, Refused, WorkerLost):
            return False
        return all(part.failure is None for part in reply.parts)

    def _lines(self, model: str) -> _Lines:
        if model not in self._models:
            self._models[model] = _Lines(_Line(Admission(self.most)), _Line(Admission(self.most)))
        return self._models[model]

    def _dispatch(self, model: str, lines: _Lines) -> None:
        """Send batches while inputs wait: one for each live worker to compute, and a full one to go on with.

        A second that is not full yet stays here, where what arrives meanwhile can join it. Each of the two lines has
        these batches. Small ones that large ones have to let pass are a quarter as large.
        """
        workers = max(1, self.bus.live_workers(model))
        for line in (lines.small, lines.large):
            while line.waiting.inputs:
                full = line.waiting.inputs >= self.max_batch_inputs
                if len(line.batches) >= (2 * workers if full else workers):
                    if full:
                        line.admission.throughput.note_busy()
                    break
                passing = line is lines.small and lines.large.batches
                taken = line.take(max(1, self.max_batch_inputs // 4) if passing else self.max_batch_inputs)
                batch = asyncio.create_task(self._classify_batch(model, line, taken, small=line is lines.small))
                line.batches.add(batch)
                batch.add_done_callback(line.batches.discard)
                batch.add_done_callback(lambda _: self._dispatch(model, lines))

    async def _classify_batch(self, model: str, line: _Line, taken: Sequence[_Contribution], *, small: bool) -> None:
        batch = ClassifyBatch(
            id=new_id("batch"),
            reply_to=self.bus.reply_channel,
            model=model,
            small=small,
            parts=tuple(one.part for one in taken),
        )
        sent = time.monotonic()
        try:
            text = await self.bus.call(batch, max(one.request.deadline for one in taken) - sent)
            reply = ClassifyReply.model_validate_json(text)
            for (request, part, _), part_reply in zip(taken, reply.parts, strict=True):
                request.receive(part.first, part_reply)
            self._note(model, taken, sent, reply)
            busy = line.waiting.inputs >= self.max_batch_inputs
            line.admission.throughput.note(sum(one.load.inputs for one in taken), busy=busy)
        except Exception as error:  # noqa: BLE001 - whatever it is, each waiting caller must learn of it
            for request, _, _ in taken:
                if not request.answer.done():
                    request.answer.set_exception(error)

    def _note(self, model: str, taken: Sequence[_Contribution], sent: float, reply: ClassifyReply) -> None:
        """Count an answered batch, which was sent at ``sent`` on the monotonic clock."""
        metrics, queued = self.metrics, sent - min(one.request.arrived for one in taken)
        metrics.stage_seconds.labels(model, "queue").observe(queued)
        metrics.stage_seconds.labels(model, "worker").observe(time.monotonic() - sent)
        metrics.batch_inputs.labels(model).observe(sum(one.load.inputs for one in taken))
        scored = [one for part in reply.parts for one in part.scored]
        metrics.inputs.labels(model).inc(len(scored))
        metrics.tokens.labels(model).inc(sum(one.tokens for one in scored))
