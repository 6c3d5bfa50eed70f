"""``/contexts/{ref}/adapter``: what a context has learned, for PEFT and for other engines."""

from __future__ import annotations

import asyncio
from typing import Any, Final, Literal

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from app.contexts.exporting import export
from app.contexts.lookup import find_ready
from app.contract.access import Scope
from app.contract.names import ErrorCode
from app.gateway import GatewayDep, RecordsDep
from app.records.connection import new_id
from app.routes.guard import GuardedRoute, needs
from app.routes.openapi import STORE, problems

router = APIRouter(tags=["contexts"], route_class=GuardedRoute)

_BINARY: Final[dict[str, Any]] = {"schema": {"type": "string", "format": "binary"}}
_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The adapter, or its embeddings",
        "content": {"application/zip": _BINARY, "application/octet-stream": _BINARY},
    }
}


@router.get(
    "/contexts/{ref}/adapter",
    response_class=StreamingResponse,
    responses=_RESPONSES
    | problems(
        ErrorCode.CONTEXT_NOT_FOUND,
        ErrorCode.CONTEXT_NOT_READY,
        ErrorCode.CONTEXT_FAILED,
        ErrorCode.MODEL_CHANGED,
        ErrorCode.FORMAT_UNSUPPORTED,
        ErrorCode.NO_WORKER,
        ErrorCode.ARTIFACTS_UNAVAILABLE,
        *STORE,
    ),
    dependencies=[needs(Scope.READ)],
)
async def get_adapter(
    ref: str,
    gateway: GatewayDep,
    records: RecordsDep,
    format: Literal["adapter", "embeddings"] = "adapter",  # noqa: A002 - the parameter's name
) -> StreamingResponse:
    """Get what a context has learned.

    A zip with a folder for each prompt, which PEFT loads (`PeftModel.from_pretrained`), and with `contextune.json` and
    `contextune.safetensors`, which hold all of it: labels, template, heads, mixture and calibration. With ``format``
    embeddings: a safetensors file with a tensor `prompt.<i>` (tokens x hidden) for each prompt, for engines that take
    prompt embeddings.
    """
    stored, artifact = await asyncio.to_thread(find_ready, records, ref, "/ref")
    file = await asyncio.to_thread(records.uploads.begin, new_id("exp"))
    try:
        made = await export(gateway.bus, file, stored.context, artifact, format)
    except BaseException:
        await asyncio.to_thread(file.discard)
        raise
    headers = {"Content-Disposition": f'attachment; filename="{made.name}"', "Content-Length": str(made.size)}
    kind = "application/zip" if format == "adapter" else "application/octet-stream"
    return StreamingResponse(made.pieces(), media_type=kind, headers=headers | {"Cache-Control": "no-store"})
