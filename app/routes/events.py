"""``GET /jobs/{job_id}/events``: what happened to a job, as a list or, as it happens, as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event

from app.contract.access import Scope
from app.contract.names import ErrorCode, JobKind
from app.contract.objects import Event
from app.errors import DomainError
from app.gateway import CallerDep, GatewayDep, RecordsDep
from app.records.lists import Page
from app.routes.guard import GuardedRoute, needs
from app.routes.lists import Limit, Listing
from app.routes.openapi import STORE, problems

router = APIRouter(tags=["jobs"], route_class=GuardedRoute)

_STREAM: Final = "text/event-stream"
#: A client that lost its stream opens another after this long (milliseconds).
_RECONNECT_MS: Final = 1_000

EventId = Annotated[str, Query(pattern=r"^[0-9]{1,15}$", description="the id of the last event that is known")]
LastEventId = Annotated[str | None, Header(pattern=r"^[0-9]{0,15}$", description="as `after`; sent by event sources")]

_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {_STREAM: {"schema": {"type": "string"}}}, "description": "A list, or a stream of events"}
}


@router.get(
    "/jobs/{job_id}/events",
    response_model=Listing[Event],
    responses=_ANSWERS | problems(ErrorCode.JOB_NOT_FOUND, ErrorCode.FORMAT_UNSUPPORTED, *STORE),
    dependencies=[needs(Scope.READ, Scope.CLASSIFY)],
)
async def list_events(
    job_id: str,
    request: Request,
    gateway: GatewayDep,
    records: RecordsDep,
    caller: CallerDep,
    limit: Limit = 20,
    after: EventId = "0",
    last_event_id: LastEventId = None,
) -> Listing[Event] | Response:
    """List the events of a job, oldest first. With ``Accept: text/event-stream`` they are sent as they happen.

    The stream ends after the event that ends the job. A reader that comes back with the id of its last event misses no
    status and no message; metrics that were thinned meanwhile are not sent again. ``limit`` is of the list alone.
    """
    known = int(last_event_id or after)
    job = await gateway.reads.job(records, job_id)
    if job is None:
        raise DomainError(ErrorCode.JOB_NOT_FOUND, "there is no such job")
    if job.kind != JobKind.BATCH:
        caller.require(Scope.READ)
    if _STREAM in request.headers.get("accept", ""):
        events = gateway.streams.read(records, job_id, known)
        admitted = partial(gateway.access.callers.admits, caller)
        return EventSourceResponse(
            _sent(events, admitted), headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
    found = await gateway.reads.events(records, job_id, known)
    page = tuple(found[:limit])
    return Listing[Event].of(Page(page, page[-1].id if len(found) > limit else None))


async def _sent(events: AsyncIterator[Event | None], admitted: Callable[[], Awaitable[bool]]) -> AsyncIterator[bytes]:
    """The events as bytes, while the reader may have them; a comment first, which tells that it is connected."""
    yield format_sse_event(comment="connected", retry=_RECONNECT_MS)
    async for event in events:
        if not await admitted():
            return
        if event is None:
            yield KEEPALIVE_COMMENT
        else:
            yield format_sse_event(data_str=event.model_dump_json(), event=event.type, id=event.id)
