"""What waits for a model: requests in lines, and the parts of them that make a batch. Knows no bus."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from app.classification.admission import Admission, Load
from app.classification.bus import Refused
from app.contract.messages import ClassifyPart, PartReply, Scored
from app.contract.plain import PlainContext

#: Inputs of a small request, and their characters in all, at most: what a few passes of the model take.
_FEW_INPUTS: Final = 8
_FEW_CHARACTERS: Final = 4096


class Answered(NamedTuple):
    """The answers to a request's inputs, in their order, and the tokens of the context that gave them."""

    scored: list[Scored]
    context_tokens: int


@dataclass(eq=False)
class Request:
    """One caller's inputs and the answers so far; ``unsent`` inputs still wait, none once the caller has gone.

    ``arrived`` and ``deadline`` are on the monotonic clock.
    """

    part: ClassifyPart
    arrived: float
    deadline: float
    answer: asyncio.Future[Answered]
    plain: PlainContext | None = None
    load: Load = field(init=False)
    scored: list[Scored | None] = field(init=False)
    unsent: int = field(init=False)
    missing: int = field(init=False)

    def __post_init__(self) -> None:
        self.unsent = self.missing = len(self.part.inputs)
        self.load = self.waiting
        self.scored = [None] * self.missing

    @property
    def waiting(self) -> Load:
        """What of it still waits: a plain context does until the first of its inputs is sent."""
        inputs = self.part.inputs[len(self.part.inputs) - self.unsent :]
        carried = len(self.plain.written) if self.plain and len(inputs) == len(self.part.inputs) else 0
        return Load(len(inputs), sum(map(_bytes, inputs)) + carried)

    @property
    def small(self) -> bool:
        """Whether it may go ahead of others."""
        inputs = self.part.inputs
        return len(inputs) <= _FEW_INPUTS and sum(map(len, inputs)) <= _FEW_CHARACTERS

    @property
    def begun(self) -> bool:
        """Whether any of it was sent."""
        return self.unsent < self.load.inputs

    def take(self, count: int) -> Contribution:
        """The next ``count`` inputs as a part, or all that there are."""
        start = len(self.part.inputs) - self.unsent
        inputs = self.part.inputs[start : start + count]
        before = self.waiting
        self.unsent -= len(inputs)
        part = self.part.model_copy(update={"first": start, "inputs": inputs})
        return Contribution(self, part, before - self.waiting)

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
            scored = [one for one in self.scored if one is not None]
            self.answer.set_result(Answered(scored, reply.context_tokens))


def _bytes(text: str) -> int:
    return len(text.encode())


class Contribution(NamedTuple):
    """What a request contributes to a batch."""

    request: Request
    part: ClassifyPart
    load: Load


@dataclass
class Line:
    """Requests that wait, in turn, what they weigh in all, and the batches of them that are under way."""

    admission: Admission
    requests: deque[Request] = field(default_factory=deque)
    waiting: Load = field(default_factory=Load)
    batches: set[asyncio.Task[None]] = field(default_factory=set)

    def add(self, request: Request) -> None:
        """Let a request wait until all its inputs are sent or its caller has gone."""
        self.requests.append(request)
        self.waiting += request.load
        request.answer.add_done_callback(lambda _: self._drop(request))

    def take(self, room: int) -> list[Contribution]:
        """One batch: an equal share for each request, in turn, until ``room`` inputs are taken.

        A small request is taken whole if it fits, for in parts it would wait for as many batches.
        """
        share = max(1, room // len(self.requests))
        batch: list[Contribution] = []
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

    def refuse_unbegun(self, request: Request, seconds: float) -> None:
        """Refuse a request whose turn did not come within ``seconds`` or a little more."""
        if not request.answer.done() and not request.begun:
            request.answer.set_exception(self.admission.misjudged(request.load, self.waiting, seconds))

    def _drop(self, request: Request) -> None:
        if request.unsent:
            self.requests.remove(request)
            self.waiting -= request.waiting
            request.unsent = 0


@dataclass
class Lines:
    """All that waits for one model, small requests apart."""

    small: Line
    large: Line
