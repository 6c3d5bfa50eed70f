"""What travels over the bus: plans, batches of inputs, their replies, and announcements of workers.

Gateways and workers of neighbouring releases serve together: a reader ignores fields that it does not know, and refuses
by name a message that says it cannot be read without them. Times are seconds on the bus's own clock, so that the clocks
of the machines do not matter.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from app.contract.names import CLASSIFY_TASK, PLAN_TASK, ErrorCode, classify_queue, plan_queue
from app.contract.payload import Payload
from app.contract.plain import PlainContext
from app.contract.tuning import Plan

#: The newest format of messages that this program reads, and the one that it writes. It rises when a reader that
#: ignores what it does not know would be wrong.
MESSAGE_FORMAT: Final = 1


class Part(Payload):
    """Base of what messages are made of: fields that are not known are ignored."""

    model_config = ConfigDict(extra="ignore")


class Message(Part):
    """Base of every message. One of a newer format than `MESSAGE_FORMAT` is refused by name."""

    format: int = MESSAGE_FORMAT

    @model_validator(mode="before")
    @classmethod
    def _readable(cls, given: Any) -> Any:
        written = given.get("format") if isinstance(given, dict) else None
        if isinstance(written, int) and written > MESSAGE_FORMAT:
            raise PydanticCustomError(
                "newer_format",
                "{kind} has format {written}, of a newer release; this one reads up to {read}",
                {"kind": cls.__name__, "written": written, "read": MESSAGE_FORMAT},
            )
        return given


class Envelope(BaseModel):
    """What can be read of any request, also of a newer format: who waits for which reply."""

    id: str
    reply_to: str


def _known_code(code: Any) -> Any:
    return code if code in set(ErrorCode) else ErrorCode.INTERNAL


class Failure(Part):
    """An expected failure that crosses from worker to gateway as data. A code that is not known is ``internal``."""

    code: Annotated[ErrorCode, BeforeValidator(_known_code)]
    message: str
    param: str | None = None


class Request(Message):
    """What a gateway asks of a worker of ``model``; the reply is published on the channel ``reply_to``.

    `Bus.call` sets ``expires_at``, after which nobody waits, and ``turn``, which counts the times that a request was
    begun and lost: of the copies with the same ``id`` and ``turn``, one worker computes one.
    """

    task: ClassVar[str]

    id: str
    reply_to: str
    model: str
    expires_at: float = 0.0
    turn: int = 0

    @property
    def queue(self) -> str:
        """The queue that its workers take it from: only batches wait behind batches."""
        return plan_queue(self.model)

    def is_for(self, worker: Announcement) -> bool:
        """Whether a worker takes it from that queue."""
        return worker.model == self.model


class PlanRequest(Request):
    """Payload of the plan task; ``spec`` is the address of the spec's file.

    ``request_id`` is that of the HTTP request, for the worker's log, ``traceparent`` its span, if it is traced.
    """

    task: ClassVar[str] = PLAN_TASK

    spec: Annotated[str, Field(pattern=r"^[0-9a-f]{64}\.json$")]
    request_id: str | None = None
    traceparent: str | None = None


class PlanReply(Message):
    """Answer to a `PlanRequest`: exactly one of ``plan`` and ``failure``."""

    id: str
    plan: Plan | None = None
    failure: Failure | None = None


Truncate = Literal["NONE", "START", "END"]


class ClassifyPart(Part):
    """The inputs that one request contributes to a batch; ``artifact`` is the address of the context's artifact.

    That of a plain context is its own.
    ``first`` is the position in the request of the first of them; ``request_id`` is that of the HTTP request, and
    ``traceparent`` its span. With ``exact`` all labels are scored, whatever the context's shortlist.
    """

    artifact: str
    truncate: Truncate
    exact: bool = False
    first: int = 0
    inputs: tuple[str, ...]
    request_id: str | None = None
    traceparent: str | None = None


class ClassifyBatch(Request):
    """Payload of the classify task: the parts of many requests for one model.

    One that is ``small``, all its requests having few inputs, need not wait until others are computed. ``plain`` are
    the plain contexts of parts, by their addresses, that its worker may not hold yet. ``files`` are those that its
    worker announces, empty for any.
    """

    task: ClassVar[str] = CLASSIFY_TASK

    small: bool
    parts: tuple[ClassifyPart, ...]
    plain: dict[str, PlainContext] = Field(default_factory=dict)
    files: str = ""

    @property
    def queue(self) -> str:
        """The queue that its workers take it from."""
        return classify_queue(self.model, self.files)

    def is_for(self, worker: Announcement) -> bool:
        """Whether a worker takes it from that queue."""
        return super().is_for(worker) and self.files in ("", worker.files)


class Scored(Part):
    """One input's answer: confidences in the order of the context's labels, summing to 1."""

    confidences: tuple[float, ...]
    tokens: int
    truncated: bool


class PartReply(Part):
    """Answer to one `ClassifyPart`: ``scored`` has one entry an input, unless ``failure`` is set.

    ``context_tokens`` are those of the context.
    """

    scored: tuple[Scored, ...] = ()
    context_tokens: int = 0
    failure: Failure | None = None


class ClassifyReply(Message):
    """Answer to a `ClassifyBatch`, one entry a part, by a worker, which holds all contexts that were answered for.

    ``worker_seconds`` is how long the worker had it, ``device_seconds`` how long of that it was computed; None of an
    answer that does not say.
    """

    id: str
    worker: str = ""
    parts: tuple[PartReply, ...] = ()
    worker_seconds: float | None = None
    device_seconds: float | None = None


class ResidencyRequest(Message):
    """Asks every worker of ``model`` to make the context of ``artifact`` ready to answer."""

    reply_to: str
    model: str
    artifact: str


class ResidencyReply(Message):
    """Whether a worker has the context ready now."""

    worker: str
    resident: bool


class Started(Message):
    """Sent by a worker as it begins a batch or plan, so that the gateway knows whose death would lose it."""

    id: str
    started_by: str


class Refusal(Message):
    """Sent by a worker in place of a reply to a request that it cannot read."""

    id: str
    refusal: Failure


class DeviceState(Part):
    """A device of a worker, such as ``cuda:0``, what it is called, and its memory."""

    id: str
    name: str
    total_bytes: int
    free_bytes: int


class PrefixFigures(Part):
    """The prefix KVs that a worker keeps for a model, of at most ``capacity_bytes`` but for those in use.

    Counted since the worker started: ``hits``, batches that found a context's; ``loads``, those that had to compute it;
    ``evictions``, those removed to make room.
    """

    bytes: int = 0
    capacity_bytes: int = 0
    hits: int = 0
    loads: int = 0
    evictions: int = 0


class Announcement(Message):
    """What a worker says of itself and of one model it serves or loads.

    ``host`` names its machine. ``unsupported`` is why it will never serve the model, which is then not ready.
    ``files`` stands for the files of the model and of its encoders, ``busy_seconds`` is how long the device has
    computed so far, ``release`` that of the worker's program.
    """

    worker_id: str
    host: str = ""
    release: str = ""
    model: str
    ready: bool
    stage: str | None = None
    unsupported: str | None = None
    parameters: int | None = None
    context_length: int | None = None
    files: str | None = None
    resident_contexts: int = 0
    device: DeviceState | None = None
    busy_seconds: float = 0.0
    prefixes: PrefixFigures | None = None
