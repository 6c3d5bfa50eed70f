"""``POST /classify``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from contextune.models.classification import Answer
from contextune.models.contexts import Context, LabelDescription, Template
from contextune.protocol.call import Call, send_json
from contextune.protocol.call import model as read_model
from contextune.sources import ExampleSource, examples_from

Truncate: TypeAlias = Literal["NONE", "START", "END"]

#: Texts of one request where a caller has more than fit: few enough that others get their turn.
_TEXTS_A_REQUEST: Final = 256
_BYTES_A_REQUEST: Final = 4 * 1024 * 1024
#: The service's own deadline is 60 s for each 64 inputs; this is what it may add.
_SECONDS_A_PASS: Final = 60.0
_TEXTS_A_PASS: Final = 64


def classify(
    context: str | Context | None = None,
    inputs: str | Sequence[str] = (),
    *,
    examples: ExampleSource | None = None,
    labels: Sequence[str | LabelDescription | Mapping[str, str]] | None = None,
    model: str | None = None,
    template: Template | Mapping[str, str] | None = None,
    truncate: Truncate | None = None,
    min_confidence: float | None = None,
    top_k: int | None = None,
    exact: bool | None = None,
    batch_calibration: bool | None = None,
) -> Call[Answer]:
    """Classify texts, 1,024 at most, with a context (a ref or a `Context`).

    With ``examples``, or ``labels`` alone, in place of a context the texts are classified at once, without tuning.
    ``truncate`` says which end of a text that is too long is cut off; ``min_confidence`` below what no label is
    predicted; ``top_k`` how many labels are told.
    """
    body: dict[str, Any] = {
        "context": context.id if isinstance(context, Context) else context,
        "inputs": [inputs] if isinstance(inputs, str) else list(inputs),
        "examples": None
        if examples is None
        else [example.body for example in examples_from(examples, alone=labels is None)],
        "labels": None if labels is None else list(labels),
        "model": model,
        "template": template,
        "truncate": truncate,
        "min_confidence": min_confidence,
        "top_k": top_k,
        "exact": exact,
        "batch_calibration": batch_calibration,
    }
    passes = 1 + len(body["inputs"]) // _TEXTS_A_PASS
    return Call(send_json("POST", "/classify", body, read_seconds=passes * _SECONDS_A_PASS + 10), read_model(Answer))


def requests_of(texts: Iterable[str]) -> Iterator[list[str]]:
    """Any number of texts as the inputs of requests that are small enough."""
    gathered: list[str] = []
    size = 0
    for text in texts:
        size += len(text.encode(errors="surrogatepass"))
        if gathered and (len(gathered) == _TEXTS_A_REQUEST or size > _BYTES_A_REQUEST):
            yield gathered
            gathered, size = [], len(text)
        gathered.append(text)
    if gathered:
        yield gathered
