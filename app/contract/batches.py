"""Batches: what is asked of one, what of it is told, and the lines of its files.

A batch's input is a file of lines as its user wrote them (JSON) or as the gateway made them of CSV. Results and errors
are files of lines too, one of each a chunk, in the order of the input.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from app.contract.messages import Truncate
from app.contract.names import ErrorCode
from app.contract.objects import Job, Report, Served
from app.contract.payload import Payload
from app.contract.texts import Characters, Label, Text

MAX_BATCH_BYTES: Final = 512 * 1024 * 1024
MAX_BATCH_LINES: Final = 1_000_000
#: Most bytes of a line: a text with every character escaped, an id and a label. What is over is cut off by one byte
#: more, so that whoever reads the line sees that it was longer.
MAX_LINE_BYTES: Final = 1024 * 1024
MAX_LINE_ID_CHARACTERS: Final = 512

#: Suffixes of the addresses of a batch's files: lines, and what of labelled lines the figures need.
LINES_SUFFIX: Final = ".jsonl"
OUTCOMES_SUFFIX: Final = ".outcomes"


class Counts(Payload):
    """Lines of a batch: all, those that are answered, those that cannot be."""

    total: int
    done: int
    failed: int


class Batch(Job):
    """A job of kind ``batch``: many texts in a file, classified with one context.

    ``expires_at`` is when it is removed with its files, null until it has ended. ``report`` is about the lines with
    labels, once all lines are done; null where there are none, and in lists.
    """

    counts: Counts
    expires_at: AwareDatetime | None
    report: Report | None


class BatchOptions(Payload):
    """How the lines of a batch are answered; as in a request to classify."""

    truncate: Truncate = "NONE"
    min_confidence: float = Field(default=0.0, ge=0, le=1)
    exact: bool = False
    top_k: int = Field(default=1, ge=1)


class BatchSpec(Payload):
    """All that decides a batch besides its lines: of the context the artifact, what it serves and its target error."""

    artifact: str
    served: Served
    target_error: float
    options: BatchOptions


def _numbers_too(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


LineId = Annotated[
    Annotated[Characters, Field(max_length=MAX_LINE_ID_CHARACTERS)] | None, BeforeValidator(_numbers_too)
]


class BatchLine(BaseModel):
    """A line of the input. Fields that are not known are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, strict=True)

    text: Text
    id: LineId = None
    label: Label | None = None


class BatchLabel(Payload):
    """How probable a label is."""

    confidence: float


class BatchResult(Payload):
    """The answer to a line; ``index`` counts lines from 0, ``labels`` are the likeliest ones first."""

    index: int
    id: str | None
    prediction: str | None
    confidence: float
    abstained: bool
    labels: dict[str, BatchLabel]


class BatchError(Payload):
    """A line that could not be answered, and why."""

    index: int
    id: str | None
    code: ErrorCode
    message: str
