"""``/keys``, ``/tenants``, ``/usage``, ``/audit`` and ``/webhooks``: who may do what, and who did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from contextune.models.access import AuditEntry, Key, Limits, Tenant, Usage, Webhook
from contextune.models.listing import Page
from contextune.protocol import call as calling
from contextune.protocol.call import Call, Request, path, send_json
from contextune.protocol.call import model as read_model


def create_key(
    name: str,
    scopes: Sequence[str],
    *,
    tenant: str | None = None,
    expires_at: datetime | str | None = None,
    limits: Limits | Mapping[str, int] | None = None,
    idempotency_key: str | None = None,
) -> Call[Key]:
    """Make a key. Its secret is in this answer's ``key`` and nowhere else."""
    body: dict[str, Any] = {
        "name": name,
        "scopes": list(scopes),
        "tenant": tenant,
        "expires_at": expires_at,
        "limits": limits,
    }
    request = send_json("POST", "/keys", body)
    return Call(request, read_model(Key), creates=True, idempotency_key=idempotency_key)


def keys_page(*, tenant: str | None = None, limit: int | None = None, after: str | None = None) -> Call[Page[Key]]:
    """Get one page of keys, newest first. An operator gets those of all tenants, or of one."""
    return calling.get("/keys", read_model(Page[Key]), tenant=tenant, limit=limit, after=after)


def delete_key(key_id: str) -> Call[None]:
    """Revoke a key."""
    return calling.delete(path("keys", key_id))


def tenants_page(*, limit: int | None = None, after: str | None = None) -> Call[Page[Tenant]]:
    """Get one page of tenants."""
    return calling.get("/tenants", read_model(Page[Tenant]), limit=limit, after=after)


def get_tenant(tenant_id: str) -> Call[Tenant]:
    """Get a tenant."""
    return calling.get(path("tenants", tenant_id), read_model(Tenant))


def update_tenant(tenant_id: str, *, limits: Limits | Mapping[str, int | None]) -> Call[Tenant]:
    """Set the limits of a tenant."""
    return Call(send_json("PATCH", path("tenants", tenant_id), {"limits": limits}), read_model(Tenant))


def delete_tenant(tenant_id: str) -> Call[None]:
    """Revoke the keys of a tenant and remove all that it has, one by one."""
    return calling.delete(path("tenants", tenant_id))


def usage() -> Call[Usage]:
    """Get inputs and tokens by day."""
    return calling.get("/usage", read_model(Usage))


def audit_page(*, limit: int | None = None, after: str | None = None) -> Call[Page[AuditEntry]]:
    """Get one page of the audit log, newest first."""
    return calling.get("/audit", read_model(Page[AuditEntry]), limit=limit, after=after)


def create_webhook(
    url: str, *, events: Sequence[str] | None = None, idempotency_key: str | None = None
) -> Call[Webhook]:
    """Have events sent to ``url``. The secret that signs them is in this answer and nowhere else."""
    body = {"url": url, "events": None if events is None else list(events)}
    request = send_json("POST", "/webhooks", body)
    return Call(request, read_model(Webhook), creates=True, idempotency_key=idempotency_key)


def webhooks() -> Call[Page[Webhook]]:
    """Get all webhooks."""
    return Call(Request("GET", "/webhooks"), read_model(Page[Webhook]), whole=True)


def delete_webhook(webhook_id: str) -> Call[None]:
    """Send no more events there."""
    return calling.delete(path("webhooks", webhook_id))
