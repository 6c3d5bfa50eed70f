"""What travels over the bus: plans, batches of inputs, their replies, and announcements of workers."""

from __future__ import annotations

from typing import Literal

from app.contract.names import ErrorCode
from app.contract.payload import Payload
from app.contract.tuning import Plan, TuningSpec


class Failure(Payload):
    """An expected failure that crosses from worker to gateway as data."""

    code: ErrorCode
    message: str
    param: str | None = None


class PlanRequest(Payload):
    """Payload of the plan task."""

    id: str
    reply_to: str
    expires_at: float
    model: str
    spec: TuningSpec


class PlanReply(Payload):
    """Answer to a `PlanRequest`: exactly one of ``plan`` and ``failure``."""

    id: str
    plan: Plan | None = None
    failure: Failure | None = None


Truncate = Literal["NONE", "START", "END"]


class ClassifyPart(Payload):
    """The inputs that one request contributes to a batch; ``artifact`` is the address of the context's artifact.

    ``first`` is the position in the request of the first of them.
    """

    artifact: str
    truncate: Truncate
    first: int = 0
    inputs: tuple[str, ...]


class ClassifyBatch(Payload):
    """Payload of the classify task: the parts of many requests for one model. Times are Unix seconds.

    One that is ``small``, all its requests having few inputs, need not wait until others are computed.
    """

    id: str
    reply_to: str
    expires_at: float
    model: str
    small: bool
    parts: tuple[ClassifyPart, ...]


class Scored(Payload):
    """One input's answer: confidences in the order of the context's labels, summing to 1."""

    confidences: tuple[float, ...]
    tokens: int
    truncated: bool


class PartReply(Payload):
    """Answer to one `ClassifyPart`: ``scored`` has one entry an input, unless ``failure`` is set."""

    scored: tuple[Scored, ...] = ()
    failure: Failure | None = None


class ClassifyReply(Payload):
    """Answer to a `ClassifyBatch`, one entry a part."""

    id: str
    parts: tuple[PartReply, ...] = ()


class Taken(Payload):
    """Sent by a worker as it begins a batch or plan, so that the gateway knows whose death would lose it."""

    id: str
    taken_by: str


class Announcement(Payload):
    """What a worker says of itself and of one model it serves or loads.

    ``unsupported`` is why it will never serve the model, which is then not ready.
    """

    worker_id: str
    model: str
    ready: bool
    stage: str | None = None
    unsupported: str | None = None
    parameters: int | None = None
    context_length: int | None = None
    resident_contexts: int = 0
