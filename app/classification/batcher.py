"""The batcher: groups queries that wait for the same model into one message for a worker.

A request never waits for company: it leaves at once while the workers have room, and batches form from what arrives
while they have none. Requests take turns, so that one with a thousand inputs does not hold up others. Small ones do not
even wait for the batches of large ones: they have batches of their own, which a worker lets pass.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from app.classification.admission import Admission, Load
from app.classification.bus import Bus, DeadlineExceeded, NoWorker
from app.classification.holders import Holders
from app.classification.lines import Answered, Contribution, Line, Lines, Request
from app.contract.messages import ClassifyBatch, ClassifyPart, ClassifyReply, PartReply, Truncate
from app.contract.names import ErrorCode
from app.contract.plain import PlainContext
from app.contract.traces import traceparent
from app.records.connection import new_id
from app.telemetry.metrics import BatchTimes, Metrics
from app.telemetry.traces import trace_part

#: Inputs that the timeout holds for: more may take as many times as long.
_INPUTS_IN_TIME: Final = 64
#: A small request whose wait was misjudged is refused once it has waited so many times the longest wait.
_MISJUDGED: Final = 1.5

#: What was asked for, and what a worker said of it.
_Answer = tuple[Contribution, PartReply]


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
    _models: dict[str, Lines] = field(init=False, default_factory=dict)
    _holders: Holders = field(init=False, default_factory=Holders)

    def waiting_inputs(self, model: str) -> int:
        """How many inputs wait here for ``model``."""
        lines = self._models.get(model)
        return lines.small.waiting.inputs + lines.large.waiting.inputs if lines else 0

    def seconds_for(self, inputs: int) -> float:
        """How long a request with so many inputs may take."""
        return self.timeout * math.ceil(inputs / _INPUTS_IN_TIME)

    async def classify(
        self,
        model: str,
        context: str | PlainContext,
        truncate: Truncate,
        inputs: Sequence[str],
        *,
        exact: bool = False,
    ) -> Answered:
        """Answers to ``inputs`` by a plain context, or by the one whose artifact has the address ``context``.

        With ``exact`` all labels are scored.

        Raises `Overloaded` before anything is sent; `Refused` with a worker's reason; and what `Bus.call` raises. Once
        cancelled, it sends no more of them.
        """
        request_id = structlog.contextvars.get_contextvars().get("request_id")
        plain = context if isinstance(context, PlainContext) else None
        address = context if isinstance(context, str) else context.address
        part = ClassifyPart(
            artifact=address,
            truncate=truncate,
            exact=exact,
            inputs=tuple(inputs),
            request_id=request_id,
            traceparent=traceparent(),
        )
        seconds = self.seconds_for(len(inputs))
        now = time.monotonic()
        request = Request(part, now, now + seconds, asyncio.get_running_loop().create_future(), plain)
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

    def _lines(self, model: str) -> Lines:
        if model not in self._models:
            self._models[model] = Lines(Line(Admission(self.most)), Line(Admission(self.most)))
        return self._models[model]

    def _dispatch(self, model: str, lines: Lines) -> None:
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

    async def _classify_batch(self, model: str, line: Line, taken: Sequence[Contribution], *, small: bool) -> None:
        """Answer for what a batch holds. What was made with other files goes on to a worker that has others."""
        left, files, asked = taken, "", set[str]()
        refusals: ClassifyReply | None = None
        try:
            while left:
                sent = time.monotonic()
                try:
                    reply = await self._ask(model, left, small=small, files=files)
                except NoWorker:
                    if refusals is None or not self._files(model):
                        raise
                    reply = refusals  # whoever had these files has gone
                known = self._files(model)
                asked.add(files or known.get(reply.worker, ""))
                others = sorted({*known.values()} - asked)
                answered, refused = list[_Answer](), list[_Answer]()
                for one in zip(left, reply.parts, strict=True):
                    (refused if others and _of_other_files(one[1]) else answered).append(one)
                self._receive(model, line, answered, sent, reply)
                left, files = [one for one, _ in refused], others[0] if others else ""
                refusals = reply.model_copy(update={"parts": tuple(part for _, part in refused)})
        except Exception as error:  # noqa: BLE001 - whatever it is, each waiting caller must learn of it
            for request, _, _ in left:
                if not request.answer.done():
                    request.answer.set_exception(error)

    def _receive(
        self,
        model: str,
        line: Line,
        answered: Sequence[_Answer],
        sent: float,
        reply: ClassifyReply,
    ) -> None:
        """Hand on what a worker answered, and count it."""
        if not answered:
            return
        for (request, part, _), part_reply in answered:
            request.receive(part.first, part_reply)
        taken = [one for one, _ in answered]
        self._note(model, taken, sent, reply)
        busy = line.waiting.inputs >= self.max_batch_inputs
        line.admission.throughput.note(sum(one.load.inputs for one in taken), busy=busy)

    def _files(self, model: str) -> dict[str, str]:
        """The files that each worker of a model has, as far as it says."""
        ready = (one for one in self.bus.announcements(model) if one.ready)
        return {one.worker_id: one.files for one in ready if one.files is not None}

    async def _ask(self, model: str, taken: Sequence[Contribution], *, small: bool, files: str) -> ClassifyReply:
        """The reply to a batch by a worker with these files, or any.

        Examples of plain contexts go along where a worker may not hold them.
        """
        plain = {one.part.artifact: one.request.plain for one in taken if one.request.plain is not None}
        live = {one.worker_id for one in self.bus.announcements(model) if one.ready}
        held = {address for address in plain if self._holders.all_hold(address, live)}
        while True:
            batch = ClassifyBatch(
                id=new_id("batch"),
                reply_to=self.bus.reply_channel,
                model=model,
                small=small,
                files=files,
                parts=tuple(one.part for one in taken),
                plain={address: one for address, one in plain.items() if address not in held},
            )
            seconds = max(one.request.deadline for one in taken) - time.monotonic()
            reply = ClassifyReply.model_validate_json(await self.bus.call(batch, seconds))
            missing = set()
            for part, answered in zip(batch.parts, reply.parts, strict=True):
                if answered.failure is None and part.artifact in plain:
                    self._holders.note(part.artifact, reply.worker)
                elif answered.failure is not None and answered.failure.code == ErrorCode.EXAMPLES_NEEDED:
                    missing.add(part.artifact)
            if not missing & held:
                return reply
            for address in missing:
                self._holders.forget(address)
            held = set()  # so it is asked twice at most

    def _note(self, model: str, taken: Sequence[Contribution], sent: float, reply: ClassifyReply) -> None:
        """Count an answered batch, which was sent at ``sent`` on the monotonic clock."""
        waited, away = sent - min(one.request.arrived for one in taken), time.monotonic() - sent
        times = BatchTimes(waited, away, reply.worker_seconds, reply.device_seconds)
        for one in taken:
            trace_part(one.part.traceparent, one.request.arrived, sent, times)
        tokens = [one.tokens for part in reply.parts for one in part.scored]
        self.metrics.note_batch(model, times, sum(one.load.inputs for one in taken), tokens)


def _of_other_files(part: PartReply) -> bool:
    """Whether a part was not answered as its context was made with other files of the model or of its encoder."""
    return part.failure is not None and part.failure.code == ErrorCode.MODEL_CHANGED
