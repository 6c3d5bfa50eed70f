"""``/contexts``: look at, list, change and delete contexts."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, status
from pydantic import Field

from app.contexts.deletion import delete
from app.contexts.lookup import find, find_spec
from app.contract.access import Scope
from app.contract.names import ErrorCode, JobStatus
from app.contract.objects import Context
from app.contract.payload import Payload
from app.contract.tuning import Example
from app.errors import DomainError
from app.gateway import GatewayDep, RecordsDep
from app.records.lists import ContextFilter
from app.routes.bodies import json_body
from app.routes.context_creation import MetadataKey, MetadataValue
from app.routes.guard import GuardedRoute, needs
from app.routes.lists import After, Limit, Listing
from app.routes.openapi import BODY, CHANGES, STORE, problems, request_body
from app.routes.query import deep_object, deep_values

router = APIRouter(tags=["contexts"], route_class=GuardedRoute)

ContextId = Annotated[str, Path(pattern=r"^ctx_[0-9a-z]{1,40}$", description="an id; names are not taken")]


@router.get(
    "/contexts",
    responses=problems(*STORE),
    openapi_extra=deep_object("metadata", "metadata that contexts must have, as `metadata[key]=value`"),
    dependencies=[needs(Scope.READ)],
)
def list_contexts(
    records: RecordsDep,
    request: Request,
    limit: Limit = 20,
    after: After = None,
    name: Annotated[str | None, Query(max_length=128)] = None,
    status: JobStatus | None = None,
    model: Annotated[str | None, Query(max_length=200)] = None,
) -> Listing[Context]:
    """List contexts, newest first."""
    wanted = ContextFilter(name=name, status=status, model=model, metadata=deep_values(request, "metadata"))
    page = records.contexts.page(limit, after, wanted)
    found = tuple(stored.context for stored in page.data)
    return Listing[Context](data=found, has_more=page.next is not None, next=page.next)


@router.get(
    "/contexts/{ref}",
    responses=problems(ErrorCode.CONTEXT_NOT_FOUND, ErrorCode.FORMAT_UNSUPPORTED, *STORE),
    dependencies=[needs(Scope.READ)],
)
def get_context(ref: str, records: RecordsDep) -> Context:
    """Get a context by a ref: its id, ``name``, ``name@version`` or ``name@alias``."""
    return find(records, ref).context


@router.get(
    "/contexts/{ref}/examples",
    responses=problems(ErrorCode.CONTEXT_NOT_FOUND, ErrorCode.FORMAT_UNSUPPORTED, *STORE),
    dependencies=[needs(Scope.READ)],
)
def list_examples(
    ref: str,
    records: RecordsDep,
    limit: Annotated[int, Query(ge=1, le=1000, description="how many at most")] = 100,
    after: Annotated[int | None, Query(ge=0, le=1_000_000, description="`next` of the page before")] = None,
) -> Listing[Example]:
    """List the examples that a context was made of, in their order; of one that was imported none are known."""
    _, spec = find_spec(records, ref)
    examples = () if spec is None else spec.examples
    start = 0 if after is None else after
    page = examples[start : start + limit]
    more = start + limit < len(examples)
    return Listing[Example](data=page, has_more=more, next=str(start + limit) if more else None)


class ContextChanges(Payload):
    """What of a context changes: keys of ``metadata`` are set, or removed with null; others stay (RFC 7396)."""

    metadata: dict[MetadataKey, MetadataValue | None] = Field(max_length=32)


@router.patch(
    "/contexts/{ref}",
    responses=problems(ErrorCode.CONTEXT_NOT_FOUND, ErrorCode.FORMAT_UNSUPPORTED, *CHANGES, *BODY),
    openapi_extra=request_body(ContextChanges, {"metadata": {"team": "cards", "reviewed": None}}),
    dependencies=[needs(Scope.CONTEXTS_WRITE, change="context.change")],
)
async def change_context(
    ref: ContextId, body: Annotated[ContextChanges, json_body(ContextChanges)], records: RecordsDep
) -> Context:
    """Change a context's metadata."""

    def change() -> Context:
        if not records.contexts.patch_metadata(ref, body.metadata):
            raise DomainError(ErrorCode.CONTEXT_NOT_FOUND, "there is no such context")
        return find(records, ref).context

    return await asyncio.to_thread(change)


@router.delete(
    "/contexts/{ref}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(ErrorCode.CONTEXT_IN_USE, ErrorCode.ARTIFACTS_UNAVAILABLE, *CHANGES),
    dependencies=[needs(Scope.CONTEXTS_WRITE, change="context.delete")],
)
async def delete_context(ref: ContextId, gateway: GatewayDep, records: RecordsDep) -> None:
    """Delete a context for good, cancelling its job if that still runs. There need not be one."""
    await asyncio.to_thread(delete, records, gateway.settings.artifacts_url, ref)
