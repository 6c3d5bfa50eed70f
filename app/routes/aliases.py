"""``/contexts/{name}/aliases/{alias}``: words that point at one version, moved atomically."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Header, Path, Response, status
from pydantic import Field

from app.classification.residency import make_resident
from app.contexts import aliases
from app.contexts.aliases import Requirements
from app.contract.access import Scope
from app.contract.names import ErrorCode
from app.contract.payload import Payload
from app.errors import DomainError
from app.gateway import GatewayDep, RecordsDep
from app.records.rows import StoredContext
from app.routes.bodies import json_body
from app.routes.guard import GuardedRoute, needs
from app.routes.openapi import BODY, CHANGES, STORE, problems, request_body

router = APIRouter(tags=["contexts"], route_class=GuardedRoute)

_ENTITY_TAG: Final = re.compile(r'"([1-9][0-9]{0,14})"')
EXAMPLE_BODY: Final[dict[str, Any]] = {"version": 3, "require": {"min_accuracy": 0.9, "not_worse_than": "prod"}}

Name = Annotated[str, Path(max_length=128)]
AliasName = Annotated[str, Path(pattern=r"^[a-z][a-z0-9._-]{0,63}$")]
IfMatch = Annotated[
    str | None, Header(max_length=40, description='the ETag that the alias must have, such as `"3"`', alias="If-Match")
]


class AliasTarget(Payload):
    """Where an alias is to point, and what the report of that version must bear out first."""

    version: Annotated[int, Field(ge=1, lt=10**15, strict=True)]
    require: Requirements | None = None


class Alias(Payload):
    """An alias. ``resident`` says whether all workers had the version ready before it moved; null when read."""

    object: Literal["alias"] = "alias"
    name: str
    alias: str
    version: int
    context_id: str
    previous_version: int | None = None
    resident: bool | None = None


@router.get(
    "/contexts/{name}/aliases/{alias}",
    responses=problems(ErrorCode.ALIAS_NOT_FOUND, *STORE),
    dependencies=[needs(Scope.READ)],
)
def get_alias(name: Name, alias: AliasName, records: RecordsDep, response: Response) -> Alias:
    """Get the version that an alias points at; its ETag is that version."""
    stored = aliases.find_alias(records, name, alias)
    response.headers["ETag"] = f'"{stored.context.version}"'
    return Alias(name=name, alias=alias, version=stored.context.version, context_id=stored.context.id)


@router.put(
    "/contexts/{name}/aliases/{alias}",
    responses=problems(
        ErrorCode.CONTEXT_NOT_FOUND,
        ErrorCode.CONTEXT_NOT_READY,
        ErrorCode.CONTEXT_FAILED,
        ErrorCode.PROMOTION_REFUSED,
        ErrorCode.ALIAS_CHANGED,
        *CHANGES,
        *BODY,
    ),
    openapi_extra=request_body(AliasTarget, EXAMPLE_BODY),
    dependencies=[needs(Scope.CONTEXTS_WRITE, change="alias.set")],
)
async def set_alias(
    name: Name,
    alias: AliasName,
    body: Annotated[AliasTarget, json_body(AliasTarget)],
    gateway: GatewayDep,
    records: RecordsDep,
    response: Response,
    if_match: IfMatch = None,
) -> Alias:
    """Point an alias at a version that can answer, all at once, after every worker that is there has made it ready."""
    if alias == "latest":
        raise DomainError(ErrorCode.INVALID_REQUEST, "latest is always the newest version that succeeded", "/alias")
    expected = _expected(if_match)
    stored, compared = await asyncio.to_thread(_checked, records, name, body)
    if expected is None and body.require is not None and body.require.not_worse_than == alias:
        expected = compared  # what the alias must not fall below is what it points at when it moves
    resident = await make_resident(gateway.bus, stored.context.model, stored.artifact or "")
    before = await asyncio.to_thread(aliases.set_alias, records, name, alias, body.version, expected)
    response.headers["ETag"] = f'"{body.version}"'
    return Alias(
        name=name,
        alias=alias,
        version=body.version,
        context_id=stored.context.id,
        previous_version=before,
        resident=resident,
    )


def _checked(records: RecordsDep, name: str, body: AliasTarget) -> tuple[StoredContext, int | None]:
    """The version, and the one that its report was compared with."""
    stored = aliases.find_version(records, name, body.version)
    if body.require is None:
        return stored, None
    return stored, aliases.check_requirements(records, stored.context, body.require)


@router.delete(
    "/contexts/{name}/aliases/{alias}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(ErrorCode.ALIAS_CHANGED, *CHANGES),
    dependencies=[needs(Scope.CONTEXTS_WRITE, change="alias.delete")],
)
def delete_alias(name: Name, alias: AliasName, records: RecordsDep, if_match: IfMatch = None) -> None:
    """Delete an alias; its version stays. There need not be one."""
    aliases.delete_alias(records, name, alias, _expected(if_match))


def _expected(if_match: str | None) -> int | None:
    if if_match is None:
        return None
    tag = _ENTITY_TAG.fullmatch(if_match.strip())
    if tag is None:
        raise DomainError(ErrorCode.INVALID_REQUEST, 'If-Match takes one ETag of an alias, such as "3"', "/if-match")
    return int(tag[1])
