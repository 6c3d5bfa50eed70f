"""``/batches``: send a file of texts to be classified by one job, and read what is done of it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request, Response, status
from fastapi.responses import StreamingResponse

from app.batches.receiving import Receiver
from app.batches.results import as_jsonl, results_as_csv
from app.contexts.lookup import find_ready
from app.contract.access import Scope
from app.contract.batches import MAX_BATCH_BYTES, MAX_BATCH_LINES, Batch, BatchOptions, BatchSpec
from app.contract.messages import Truncate
from app.contract.names import ErrorCode
from app.contract.tuning import Hyperparameters
from app.errors import DomainError
from app.gateway import GatewayDep, RecordsDep
from app.jobs.submitting import wake
from app.leftovers import removed_after
from app.records.batches import BatchSubmission, DoneSoFar
from app.records.connection import new_id
from app.records.rows import StoredContext
from app.records.store import TenantRecords
from app.routes.guard import GuardedRoute, needs, note_changed
from app.routes.idempotency import IdempotencyKey, attempt_streamed
from app.routes.lists import After, Limit, Listing
from app.routes.openapi import BODY, CHANGES, ONCE, STORE, problems
from app.routes.receiving import receive

router = APIRouter(tags=["batches"], route_class=GuardedRoute)

_COMPLETE: Final = "Contextune-Complete"

_LINES: Final = (
    f"A text on each line, at most {MAX_BATCH_LINES:,} lines or {MAX_BATCH_BYTES >> 20} MiB. "
    'JSON lines (UTF-8): `{"text": …, "id": …, "label": …}`, of which only the text is required. '
    "CSV (RFC 4180, UTF-8): a header names the columns `text`, `id` and `label`; others are passed over. "
    "A form has one part, `file`, with either."
)
_EXAMPLE: Final = '{"text": "my card never came"}\n'
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": _LINES,
        "content": {
            "application/jsonl": {"schema": {"type": "string"}, "example": _EXAMPLE},
            "text/csv": {"schema": {"type": "string"}, "example": "text\r\nmy card never came\r\n"},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "contentMediaType": "application/octet-stream"}},
                }
            },
        },
    }
}

BatchAfter = Annotated[int, Query(ge=-1, lt=2**31, description="the index of the last line that is known")]


def _stream(kinds: tuple[str, ...], what: str) -> dict[int | str, dict[str, Any]]:
    complete = {"description": "whether all lines are done", "schema": {"type": "string", "enum": ["true", "false"]}}
    content = {kind: {"schema": {"type": "string"}} for kind in kinds}
    return {200: {"content": content, "description": what, "headers": {_COMPLETE: complete}}}


@router.post(
    "/batches",
    status_code=status.HTTP_202_ACCEPTED,
    responses=problems(
        ErrorCode.CONTEXT_NOT_FOUND,
        ErrorCode.CONTEXT_NOT_READY,
        ErrorCode.CONTEXT_FAILED,
        ErrorCode.TOO_MANY_INPUTS,
        ErrorCode.MALFORMED_REQUEST,
        *ONCE,
        ErrorCode.QUOTA,
        ErrorCode.DISK_FULL,
        ErrorCode.ARTIFACTS_UNAVAILABLE,
        *CHANGES,
        *BODY,
    ),
    openapi_extra=_BODY,
    dependencies=[needs(Scope.CLASSIFY, change="batch.create")],
)
async def create_batch(
    request: Request,
    response: Response,
    gateway: GatewayDep,
    records: RecordsDep,
    context: Annotated[str, Query(min_length=1, max_length=200, description="an id, a name, or name@version")],
    truncate: Truncate = "NONE",
    min_confidence: Annotated[float, Query(ge=0, le=1, allow_inf_nan=False)] = 0.0,
    exact: Annotated[bool, Query(description="score every label, without a shortlist")] = False,
    top_k: Annotated[int, Query(ge=1, le=1000, description="labels of each result, the likeliest first")] = 1,
    idempotency_key: IdempotencyKey = None,
) -> Batch:
    """Store a file of texts and queue the job that classifies them with the version that ``context`` means now.

    The file is received as a stream: it may take as long as it likes while it keeps coming. A line that cannot be
    answered stands in the batch's errors; a file that cannot be read at all is refused. Lines with labels are compared
    with the predictions: the batch ends with a report.
    """
    options = BatchOptions(truncate=truncate, min_confidence=min_confidence, exact=exact, top_k=top_k)
    async with attempt_streamed(records, idempotency_key, "POST /batches") as once:
        ready = None if once.repeats else await asyncio.to_thread(find_ready, records, context)
        job_id = new_id("job")
        receiver = Receiver(request.headers.get("content-type", ""), partial(records.batches.upload, job_id))
        async with removed_after(receiver.discard):
            await receive(request, receiver, once)
            async with once.held():  # a large CSV takes a minute to become lines
                lines, total = await asyncio.to_thread(receiver.end)
                content = f"{context} {options.model_dump_json()} {receiver.content}"
                before = once.before(content)
                if before is not None or ready is None:
                    batch = await asyncio.to_thread(_as_now, records, before or "")
                else:
                    submission = _submission(*ready, options, total, request.state.request_id)
                    answered = once.answered(content, job_id)
                    batch = await asyncio.to_thread(records.batches.submit, job_id, submission, lines, answered)
                    await wake(gateway.bus, batch)
    note_changed(request, batch.id)
    response.headers["Location"] = f"{request.scope.get('root_path', '')}/batches/{batch.id}"
    return batch


def _submission(
    stored: StoredContext, artifact: str, options: BatchOptions, total: int, request_id: str
) -> BatchSubmission:
    context = stored.context
    target = (context.hyperparameters or Hyperparameters()).target_error
    served = context.report.served if context.report else "tuned"
    spec = BatchSpec(artifact=artifact, served=served, target_error=target, options=options)
    return BatchSubmission(context.id, context.model, spec, total, request_id)


def _as_now(records: TenantRecords, job_id: str) -> Batch:
    """What an earlier request created, as it is now. Raises `DomainError` (``deleted``)."""
    batch = records.batches.get(job_id)
    if batch is None:
        raise DomainError(ErrorCode.DELETED, "the batch that this request created was deleted")
    return batch


@router.get("/batches", responses=problems(*STORE), dependencies=[needs(Scope.READ, Scope.CLASSIFY)])
def list_batches(records: RecordsDep, limit: Limit = 20, after: After = None) -> Listing[Batch]:
    """List batches, newest first."""
    return Listing[Batch].of(records.batches.page(limit, after))


@router.get(
    "/batches/{batch_id}",
    responses=problems(ErrorCode.JOB_NOT_FOUND, ErrorCode.FORMAT_UNSUPPORTED, *STORE),
    dependencies=[needs(Scope.READ, Scope.CLASSIFY)],
)
def get_batch(batch_id: str, records: RecordsDep) -> Batch:
    """Get a batch; it is the same under ``/jobs/{job_id}``, which can wait for its end, cancel it and delete it."""
    batch = records.batches.get(batch_id)
    if batch is None:
        raise _not_found()
    return batch


@router.get(
    "/batches/{batch_id}/results",
    response_class=StreamingResponse,
    responses=_stream(("application/jsonl", "text/csv"), "The results in the order of the input")
    | problems(ErrorCode.JOB_NOT_FOUND, ErrorCode.FORMAT_UNSUPPORTED, *STORE),
    dependencies=[needs(Scope.READ, Scope.CLASSIFY)],
)
def get_results(
    batch_id: str,
    records: RecordsDep,
    after: BatchAfter = -1,
    format: Literal["jsonl", "csv"] = "jsonl",  # noqa: A002 - the parameter's name
) -> StreamingResponse:
    """Get the results that are there, in the order of the input, also while the batch runs.

    Each is a JSON object on a line of its own: `{index, id, prediction, confidence, abstained, labels}`, ``index``
    counting the lines of the input from 0 without blank ones; lines that failed are missing. With ``format`` csv they
    are rows of the same columns.
    """
    done = _done(records, batch_id)
    if format == "csv":
        return _streamed(done, results_as_csv(records.batches, done.chunks, after), "text/csv; charset=utf-8")
    return _streamed(done, as_jsonl(records.batches, done.chunks, "results", after), "application/jsonl")


@router.get(
    "/batches/{batch_id}/errors",
    response_class=StreamingResponse,
    responses=_stream(("application/jsonl",), "The lines that could not be answered, in the order of the input")
    | problems(ErrorCode.JOB_NOT_FOUND, ErrorCode.FORMAT_UNSUPPORTED, *STORE),
    dependencies=[needs(Scope.READ, Scope.CLASSIFY)],
)
def get_errors(batch_id: str, records: RecordsDep, after: BatchAfter = -1) -> StreamingResponse:
    """Get the lines that could not be answered and why, a JSON object a line: `{index, id, code, message}`."""
    done = _done(records, batch_id)
    return _streamed(done, as_jsonl(records.batches, done.chunks, "errors", after), "application/jsonl")


def _done(records: TenantRecords, batch_id: str) -> DoneSoFar:
    done = records.batches.done(batch_id)
    if done is None:
        raise _not_found()
    return done


def _streamed(done: DoneSoFar, blocks: Any, media_type: str) -> StreamingResponse:
    headers = {_COMPLETE: "true" if done.complete else "false", "Cache-Control": "no-store"}
    return StreamingResponse(blocks, media_type=media_type, headers=headers)


def _not_found() -> DomainError:
    return DomainError(ErrorCode.JOB_NOT_FOUND, "there is no such batch")
