"""``/audit`` and ``/usage``: what a tenant changed and what it used."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter

from app.contract.access import AuditEntry, Scope, UsageReport
from app.gateway import GatewayDep, RecordsDep
from app.routes.guard import GuardedRoute, needs
from app.routes.lists import After, Limit, Listing
from app.routes.openapi import problems

router = APIRouter(tags=["accounts"], route_class=GuardedRoute)


@router.get("/audit", responses=problems(), dependencies=[needs(Scope.ADMIN)])
def list_audit(records: RecordsDep, limit: Limit = 20, after: After = None) -> Listing[AuditEntry]:
    """List the changes that the tenant's keys asked for, newest first."""
    return Listing[AuditEntry].of(records.audit.page(limit, after))


@router.get("/usage", responses=problems(), dependencies=[needs(Scope.READ)])
async def get_usage(gateway: GatewayDep, records: RecordsDep) -> UsageReport:
    """Get what the tenant's requests to classify took, by day; other gateways add theirs each minute."""
    await gateway.access.meter.try_to_write()
    return UsageReport(data=await asyncio.to_thread(records.usage.days))
