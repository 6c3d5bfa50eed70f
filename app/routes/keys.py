"""``/keys``: make, list and revoke keys."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, status
from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints
from pydantic_core import PydanticCustomError

from app.access.callers import Caller
from app.access.secrets import hash_of, new_secret
from app.contract.access import Key, KeyLimits, NewKey, Scope, TenantId, effective
from app.contract.names import ErrorCode
from app.contract.payload import Payload
from app.contract.texts import Characters
from app.errors import DomainError
from app.gateway import CallerDep, GatewayDep, RecordsDep
from app.records.access import AccessRecords, Expired, TenantDeleting
from app.records.connection import new_id
from app.records.idempotency import Answered
from app.routes.bodies import json_body
from app.routes.guard import GuardedRoute, needs, note_changed
from app.routes.idempotency import IdempotencyKey, attempt
from app.routes.lists import After, Limit, Listing
from app.routes.openapi import BODY, CHANGES, ONCE, problems, request_body

router = APIRouter(tags=["keys"], route_class=GuardedRoute)


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError(ErrorCode.INVALID_REQUEST, "must be within the years 1 to 9999 of UTC") from None


class KeyRequest(Payload):
    """A key to be made. ``tenant`` is the caller's unless given; a tenant exists from its first key on."""

    name: Annotated[Characters, StringConstraints(min_length=1, max_length=128)]
    scopes: tuple[Scope, ...] = Field(min_length=1, max_length=len(Scope))
    tenant: TenantId | None = None
    expires_at: Annotated[AwareDatetime, AfterValidator(_in_utc)] | None = None
    limits: KeyLimits = KeyLimits()


EXAMPLE_BODY = {
    "name": "ticket-router",
    "scopes": ["classify"],
    "limits": {"requests_per_minute": 600, "inputs_per_minute": 10000},
}


@router.post(
    "/keys",
    status_code=status.HTTP_201_CREATED,
    responses=problems(
        ErrorCode.TENANT_DELETING,
        *ONCE,
        *CHANGES,
        *BODY,
    ),
    openapi_extra=request_body(KeyRequest, EXAMPLE_BODY),
    dependencies=[needs(Scope.ADMIN, Scope.OPERATOR, change="key.create")],
)
async def create_key(
    request: Request,
    body: Annotated[KeyRequest, json_body(KeyRequest)],
    gateway: GatewayDep,
    records: RecordsDep,
    caller: CallerDep,
    idempotency_key: IdempotencyKey = None,
) -> NewKey:
    """Make a key. Its secret, in ``key``, is shown this once, and not to a request that is repeated."""
    tenant = body.tenant or caller.tenant
    _require_to_give(caller, tenant, body.scopes)
    limits = _within_own(caller, body.limits)
    async with attempt(records, idempotency_key, "POST /keys", body) as once:
        if once.before is not None:
            found = (await asyncio.to_thread(gateway.records.access.find, once.before)).found
            if found is None:
                raise DomainError(ErrorCode.DELETED, "the key that this request created was deleted, or has expired")
            note_changed(request, found.key.id)
            return NewKey(**dict(found.key), key=None)
        secret = new_secret()
        answered = once.answered(hash_of(secret))
        made = body.model_copy(update={"limits": limits}), tenant, secret, answered, caller.tenant
        key = await asyncio.to_thread(_make, gateway.records.access, *made)
    gateway.access.callers.close_doors()
    note_changed(request, key.id)
    return NewKey(**dict(key), key=secret)


def _require_to_give(caller: Caller, tenant: str, scopes: tuple[Scope, ...]) -> None:
    """Raise `DomainError` unless the caller may give these scopes to this tenant."""
    if caller.may(Scope.OPERATOR):
        return
    if tenant != caller.tenant:
        raise DomainError(ErrorCode.INSUFFICIENT_SCOPE, "a key of another tenant needs the scope operator")
    if beyond := effective(scopes) - caller.scopes:
        raise DomainError(ErrorCode.INSUFFICIENT_SCOPE, f"you have not yourself: {', '.join(sorted(beyond))}")


def _within_own(caller: Caller, wanted: KeyLimits) -> KeyLimits:
    """``wanted``, the caller's own limits where it names none. Raises `DomainError` for one beyond them."""
    if caller.may(Scope.OPERATOR):
        return wanted
    given = caller.limits.model_dump() | wanted.model_dump(exclude_none=True)
    for name, most in caller.limits.model_dump(exclude_none=True).items():
        if given[name] > most:
            detail = f"your own key may have {most} {name.replace('_', ' ')}, and gives no more"
            raise DomainError(ErrorCode.INSUFFICIENT_SCOPE, detail, f"/limits/{name}")
    return KeyLimits(**given)


def _make(
    access: AccessRecords, body: KeyRequest, tenant: str, secret: str, answered: Answered | None, asked_by: str
) -> Key:
    scopes = tuple(dict.fromkeys(body.scopes))
    given = (new_id("key"), hash_of(secret), tenant, body.name, scopes, body.limits, body.expires_at)
    try:
        key = access.create_key(*given, answered=answered, asked_by=asked_by)
    except Expired:
        raise DomainError(ErrorCode.INVALID_REQUEST, "`expires_at` is not in the future", "/expires_at") from None
    except TenantDeleting:
        raise DomainError(ErrorCode.TENANT_DELETING, "this tenant is being deleted, or just was", "/tenant") from None
    assert key is not None  # noqa: S101 - on this occasion there is always one to make
    return key


@router.get("/keys", responses=problems(), dependencies=[needs(Scope.ADMIN, Scope.OPERATOR)])
def list_keys(
    gateway: GatewayDep,
    caller: CallerDep,
    limit: Limit = 20,
    after: After = None,
    tenant: Annotated[TenantId | None, Query(description="whose keys; for operators")] = None,
) -> Listing[Key]:
    """List keys, newest first: those of all tenants for an operator, else those of the caller's."""
    if not caller.may(Scope.OPERATOR):
        if tenant not in (None, caller.tenant):
            raise DomainError(ErrorCode.INSUFFICIENT_SCOPE, "the keys of another tenant need the scope operator")
        tenant = caller.tenant
    return Listing[Key].of(gateway.records.access.keys(limit, after, tenant))


@router.delete(
    "/keys/{key_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(*CHANGES),
    dependencies=[needs(Scope.ADMIN, Scope.OPERATOR, change="key.delete")],
)
async def delete_key(key_id: str, gateway: GatewayDep, caller: CallerDep) -> None:
    """Revoke a key: at once here, within a second on every other gateway."""
    tenant = None if caller.may(Scope.OPERATOR) else caller.tenant
    secret_hash = await asyncio.to_thread(gateway.records.access.delete_key, key_id, tenant)
    if secret_hash:
        gateway.access.callers.forget(secret_hash)
