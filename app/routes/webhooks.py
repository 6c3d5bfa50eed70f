"""``/webhooks``: addresses that are told of the ends of jobs."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response, status
from pydantic import AfterValidator, Field, HttpUrl, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from app.contract.access import Scope
from app.contract.names import ErrorCode
from app.contract.payload import Payload
from app.contract.texts import Characters
from app.contract.webhooks import EventType, Webhook
from app.errors import DomainError
from app.gateway import GatewayDep, RecordsDep
from app.records.connection import new_id
from app.records.lists import Page
from app.records.store import TenantRecords
from app.records.webhooks import MAX_WEBHOOKS
from app.routes.bodies import json_body
from app.routes.guard import GuardedRoute, needs, note_changed
from app.routes.idempotency import Attempt, IdempotencyKey, attempt
from app.routes.lists import Listing
from app.routes.openapi import BODY, CHANGES, ONCE, STORE, problems, request_body
from app.webhooks.addresses import is_private_host

router = APIRouter(tags=["webhooks"], route_class=GuardedRoute)

_URL: TypeAdapter[HttpUrl] = TypeAdapter(HttpUrl)

EXAMPLE_BODY: dict[str, Any] = {"url": "https://example.com/contextune", "events": ["job.succeeded", "job.failed"]}


def _web_address(value: str) -> str:
    try:
        url = _URL.validate_python(value)
    except ValidationError:
        raise PydanticCustomError(ErrorCode.INVALID_REQUEST, "must be an http or https URL") from None
    if url.username or url.password or url.fragment:
        raise PydanticCustomError(ErrorCode.INVALID_REQUEST, "must have neither a user, a password nor a fragment")
    return str(url)


class NewWebhook(Payload):
    """An address to be told of events; without ``events``, of all of them."""

    url: Annotated[Characters, Field(min_length=1, max_length=2_000), AfterValidator(_web_address)]
    events: Annotated[tuple[EventType, ...], Field(min_length=1)] = tuple(EventType)


class CreatedWebhook(Webhook):
    """A new webhook. ``secret`` verifies its signatures; it is shown once, and null to a request that is repeated."""

    secret: str | None


@router.post(
    "/webhooks",
    status_code=status.HTTP_201_CREATED,
    responses=problems(
        ErrorCode.WEBHOOKS_DISABLED,
        ErrorCode.QUOTA,
        *ONCE,
        *CHANGES,
        *BODY,
    ),
    openapi_extra=request_body(NewWebhook, EXAMPLE_BODY),
    dependencies=[needs(Scope.ADMIN, change="webhook.create")],
)
async def create_webhook(
    request: Request,
    body: Annotated[NewWebhook, json_body(NewWebhook)],
    gateway: GatewayDep,
    records: RecordsDep,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> CreatedWebhook:
    """Tell an address of events, as Standard Webhooks says: signed, at least once, retried for a day."""
    if gateway.settings.webhooks == "off":
        raise DomainError(ErrorCode.WEBHOOKS_DISABLED, "this service sends none; its CONTEXTUNE_WEBHOOKS is off")
    if gateway.settings.webhooks == "public" and is_private_host(_URL.validate_python(body.url).host or ""):
        detail = "must be a public address: the service's CONTEXTUNE_WEBHOOKS allows no others"
        raise DomainError(ErrorCode.INVALID_REQUEST, detail, "/url")
    async with attempt(records, idempotency_key, "POST /webhooks", body) as once:
        if once.before is not None:
            webhook, secret = await asyncio.to_thread(_as_now, records, once.before), None
        else:
            webhook, secret = await asyncio.to_thread(_make, records, body, once)
    note_changed(request, webhook.id)
    response.headers["Cache-Control"] = "no-store"
    return CreatedWebhook(**dict(webhook), secret=secret)


def _make(records: TenantRecords, body: NewWebhook, once: Attempt) -> tuple[Webhook, str | None]:
    webhook_id, events = new_id("whk"), tuple(dict.fromkeys(body.events))
    created = records.webhooks.create(body.url, events, once.answered(webhook_id), webhook_id)
    if created is None:
        raise DomainError(ErrorCode.QUOTA, f"there are {MAX_WEBHOOKS} webhooks already; delete one first")
    return created


def _as_now(records: TenantRecords, webhook_id: str) -> Webhook:
    """What an earlier request created, as it is now. Raises `DomainError` (``deleted``)."""
    webhook = records.webhooks.get(webhook_id)
    if webhook is None:
        raise DomainError(ErrorCode.DELETED, "the webhook that this request created was deleted")
    return webhook


@router.get("/webhooks", responses=problems(*STORE), dependencies=[needs(Scope.ADMIN)])
def list_webhooks(records: RecordsDep) -> Listing[Webhook]:
    """List the webhooks, newest first; there are few, so there is one page."""
    return Listing[Webhook].of(Page(tuple(records.webhooks.all()), None))


@router.delete(
    "/webhooks/{webhook_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(*CHANGES),
    dependencies=[needs(Scope.ADMIN, change="webhook.delete")],
)
def delete_webhook(webhook_id: Annotated[str, Path(max_length=100)], records: RecordsDep) -> None:
    """Forget a webhook; what waits for it is not sent. Deleting again changes nothing."""
    records.webhooks.delete(webhook_id)
