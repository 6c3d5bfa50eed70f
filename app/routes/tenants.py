"""``/tenants``: look at tenants, limit and delete them."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Response, status

from app.contract.access import Limit as MostAllowed
from app.contract.access import Scope, Tenant
from app.contract.names import ErrorCode
from app.contract.payload import Payload
from app.errors import DomainError
from app.gateway import GatewayDep
from app.routes.bodies import json_body
from app.routes.guard import GuardedRoute, needs
from app.routes.lists import After, Limit, Listing
from app.routes.openapi import BODY, CHANGES, problems, request_body

router = APIRouter(tags=["tenants"], route_class=GuardedRoute)


class LimitChanges(Payload):
    """Limits to set; null removes one, and what is not given stays."""

    queued_jobs: MostAllowed | None = None
    contexts: MostAllowed | None = None
    artifact_bytes: MostAllowed | None = None


class TenantChanges(Payload):
    """What to change of a tenant."""

    limits: LimitChanges


EXAMPLE_BODY = {"limits": {"queued_jobs": 20, "contexts": 200}}


def _not_found() -> DomainError:
    return DomainError(ErrorCode.TENANT_NOT_FOUND, "there is no such tenant")


@router.get("/tenants", responses=problems(), dependencies=[needs(Scope.OPERATOR)])
def list_tenants(gateway: GatewayDep, limit: Limit = 20, after: After = None) -> Listing[Tenant]:
    """List tenants, newest first."""
    return Listing[Tenant].of(gateway.records.access.tenants(limit, after))


@router.get(
    "/tenants/{tenant_id}", responses=problems(ErrorCode.TENANT_NOT_FOUND), dependencies=[needs(Scope.OPERATOR)]
)
def get_tenant(tenant_id: str, gateway: GatewayDep) -> Tenant:
    """Get a tenant."""
    tenant = gateway.records.access.tenant(tenant_id)
    if tenant is None:
        raise _not_found()
    return tenant


@router.patch(
    "/tenants/{tenant_id}",
    responses=problems(ErrorCode.TENANT_NOT_FOUND, *CHANGES, *BODY),
    openapi_extra=request_body(TenantChanges, EXAMPLE_BODY),
    dependencies=[needs(Scope.OPERATOR, change="tenant.patch")],
)
async def patch_tenant(
    tenant_id: str, body: Annotated[TenantChanges, json_body(TenantChanges)], gateway: GatewayDep
) -> Tenant:
    """Change what a tenant may have at once."""
    changes = body.limits.model_dump(exclude_unset=True)
    tenant = await asyncio.to_thread(gateway.records.access.patch_tenant, tenant_id, changes)
    if tenant is None:
        raise _not_found()
    return tenant


@router.delete(
    "/tenants/{tenant_id}",
    response_model=None,
    response_class=Response,
    status_code=status.HTTP_202_ACCEPTED,
    responses=problems(*CHANGES) | {204: {"description": "there is no such tenant"}},
    dependencies=[needs(Scope.OPERATOR, change="tenant.delete")],
)
async def delete_tenant(tenant_id: str, gateway: GatewayDep) -> Response:
    """Revoke the keys of a tenant, then remove all that it owns; ``GET`` is a 404 once that is done."""
    hashes = await asyncio.to_thread(gateway.records.access.delete_tenant, tenant_id)
    if hashes is None:
        return Response(status_code=status.HTTP_204_NO_CONTENT)
    gateway.access.callers.forget(*hashes)
    return Response(status_code=status.HTTP_202_ACCEPTED)
