"""``POST /contexts/import``: a context of an adapter that another installation exported, or PEFT trained."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from fastapi import APIRouter, Request, Response, status

from app.contexts.importing import AdapterReceiver, ImportFields, import_adapter
from app.contract.access import Scope
from app.contract.names import ErrorCode
from app.errors import DomainError
from app.gateway import GatewayDep, RecordsDep
from app.records.connection import new_id
from app.records.rows import StoredContext
from app.records.store import TenantRecords
from app.routes.bodies import checked
from app.routes.context_creation import Created
from app.routes.guard import GuardedRoute, log_ids, needs, note_changed
from app.routes.idempotency import IdempotencyKey, attempt_streamed
from app.routes.openapi import BODY, CHANGES, ONCE, problems
from app.routes.receiving import receive

router = APIRouter(tags=["contexts"], route_class=GuardedRoute)


def _json_text(schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": schema,
        "description": description,
    }


_FILE: Final = "a zip file of at most 512 MiB: an export of this service, or PEFT's two files of a CPT adapter"
_LABELS: Final = "JSON; PEFT's adapters only: the labels, by name or as `{name, description}`"
_TEMPLATE: Final = "JSON; PEFT's adapters only: how examples were written, the service's own template unless given"
_MODEL: Final = "the base model; needed where the zip file does not name one of this service"
_FIELDS: Final[dict[str, Any]] = {
    "file": {"type": "string", "contentMediaType": "application/zip", "description": _FILE},
    "name": {"type": "string", "description": "the context's name; that of the export unless given"},
    "model": {"type": "string", "maxLength": 200, "description": _MODEL},
    "labels": _json_text({"type": "array"}, _LABELS),
    "template": _json_text({"$ref": "#/components/schemas/Template"}, _TEMPLATE),
}
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": {"type": "object", "required": ["file"], "properties": _FIELDS}},
            "application/zip": {"schema": {"type": "string", "contentMediaType": "application/zip"}},
        },
    }
}


@router.post(
    "/contexts/import",
    status_code=status.HTTP_201_CREATED,
    response_model=Created,
    responses=problems(
        ErrorCode.ADAPTER_INVALID,
        ErrorCode.TEMPLATE_INVALID,
        ErrorCode.CONTEXT_TOO_LONG,
        ErrorCode.TOO_FEW_LABELS,
        ErrorCode.TOO_MANY_LABELS,
        ErrorCode.LABELS_INDISTINGUISHABLE,
        ErrorCode.MODEL_UNKNOWN,
        ErrorCode.MODEL_UNSUPPORTED,
        ErrorCode.MODEL_CHANGED,
        ErrorCode.FORMAT_UNSUPPORTED,
        ErrorCode.MALFORMED_REQUEST,
        *ONCE,
        ErrorCode.QUOTA,
        ErrorCode.DISK_FULL,
        ErrorCode.ARTIFACTS_UNAVAILABLE,
        ErrorCode.NO_WORKER,
        ErrorCode.BUS_UNAVAILABLE,
        ErrorCode.WORKER_LOST,
        ErrorCode.DEADLINE_EXCEEDED,
        *CHANGES,
        *BODY,
    ),
    openapi_extra=_BODY,
    dependencies=[needs(Scope.CONTEXTS_WRITE, change="context.import")],
)
async def import_context(
    request: Request,
    response: Response,
    gateway: GatewayDep,
    records: RecordsDep,
    idempotency_key: IdempotencyKey = None,
) -> Created:
    """Create a context of an adapter, which can answer at once.

    An export of this service gives the same answers to the bit on the same base model and sentence encoder. An adapter
    that PEFT trained answers as it does there: by the labels' log-probabilities, not calibrated. A worker checks the
    files before anything is stored; pickles are not read.
    """
    async with attempt_streamed(records, idempotency_key, "POST /contexts/import") as once:
        context_id = new_id("ctx")
        zipped = await asyncio.to_thread(records.uploads.begin, context_id)
        receiver = AdapterReceiver(request.headers.get("content-type", ""), zipped)
        try:
            await receive(request, receiver, once)
            fields = checked(ImportFields, await asyncio.to_thread(receiver.end))
            content = f"{fields.model_dump_json(exclude_unset=True)} {zipped.sha256}"
            before = once.before(content)
            if before is not None:
                stored = await asyncio.to_thread(_as_now, records, before)
            else:
                given = zipped, fields, context_id, once.answered(content, context_id)
                async with once.held():
                    stored = await import_adapter(gateway.bus, gateway.settings.models, records, *given)
        finally:
            await asyncio.shield(asyncio.to_thread(zipped.discard))
    note_changed(request, stored.context.id)
    log_ids({"context_id": stored.context.id})
    response.headers["Location"] = f"{request.scope.get('root_path', '')}/contexts/{stored.context.id}"
    return Created(context=stored.context, job=None)


def _as_now(records: TenantRecords, context_id: str) -> StoredContext:
    """What an earlier request created, as it is now. Raises `DomainError` (``deleted``)."""
    stored = records.contexts.get(context_id)
    if stored is None:
        raise DomainError(ErrorCode.DELETED, "the context that this request created was deleted")
    return stored
