"""``/batches``: many texts in a file, answered by one job, which is cancelled, deleted and watched as any job."""

from __future__ import annotations

from typing import Any, Final

from contextune.calls.classification import Truncate
from contextune.models.batches import Batch
from contextune.models.contexts import Context
from contextune.models.listing import Page
from contextune.protocol import call as calling
from contextune.protocol.call import Call, Request, path, query
from contextune.protocol.call import model as read_model
from contextune.sources import Columns, LineSource, lines_from

#: The service reads and checks the whole file before it answers.
_UPLOAD_SECONDS: Final = 600.0


def create(
    context: str | Context,
    source: LineSource,
    *,
    columns: Columns | None = None,
    content_type: str | None = None,
    truncate: Truncate | None = None,
    min_confidence: float | None = None,
    exact: bool | None = None,
    top_k: int | None = None,
    idempotency_key: str | None = None,
) -> Call[Batch]:
    """Send texts, a million at most, and queue the job that classifies them.

    ``source`` is a path (CSV, TSV, JSONL, JSON, Excel, .txt), a binary file, a table of pandas or polars, or an
    iterable of texts, mappings (text, id, label) or pairs (text, label). With labels the batch ends with a report. One
    that can be read once only, such as a generator, is not sent again after a failure.
    """
    upload = lines_from(source, columns, content_type)
    arguments = query(
        context=context.id if isinstance(context, Context) else context,
        truncate=truncate,
        min_confidence=min_confidence,
        exact=exact,
        top_k=top_k,
    )
    request = Request(
        "POST", "/batches", arguments, {"content-type": upload.content_type}, upload, read_seconds=_UPLOAD_SECONDS
    )
    return Call(request, read_model(Batch), creates=True, idempotency_key=idempotency_key)


def get(batch_id: str) -> Call[Batch]:
    """Get a batch."""
    return calling.get(path("batches", batch_id), read_model(Batch))


def wait(batch_id: str, seconds: float) -> Call[Batch]:
    """Get a batch as soon as it has ended or so many seconds have passed."""
    request = Request("GET", path("jobs", batch_id), query(wait=round(seconds, 3)), read_seconds=seconds + 30)
    return Call(request, read_model(Batch))


def page(*, limit: int | None = None, after: str | None = None) -> Call[Page[Batch]]:
    """Get one page of batches, newest first."""
    return calling.get("/batches", read_model(Page[Batch]), limit=limit, after=after)


def lines(batch_id: str, what: str, after: int | None) -> Request:
    """The results or the errors of a batch as JSONL, in the order of its lines, after the one with that index."""
    arguments: dict[str, Any] = {"after": after}
    return Request("GET", path("batches", batch_id, what), query(**arguments), {"accept": "application/jsonl"})
