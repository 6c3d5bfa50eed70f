"""Keys, tenants, usage, the audit log and webhooks."""

from __future__ import annotations

from pydantic import AwareDatetime, SecretStr

from contextune.models.answered import Answered


class Limits(Answered):
    """How much a key may ask for in a minute, and how much a tenant may keep; None is without a limit of its own."""

    requests_per_minute: int | None = None
    inputs_per_minute: int | None = None
    queued_jobs: int | None = None
    contexts: int | None = None
    artifact_bytes: int | None = None


class Key(Answered):
    """A key. ``key``, the secret, is only there in the answer that made it: ``key.get_secret_value()``."""

    id: str
    object: str = "key"
    name: str | None = None
    scopes: tuple[str, ...] = ()
    tenant: str = "default"
    created_at: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None
    last_used_at: AwareDatetime | None = None
    limits: Limits | None = None
    key: SecretStr | None = None


class Tenant(Answered):
    """Whose records are whose."""

    id: str
    object: str = "tenant"
    status: str = "active"
    limits: Limits | None = None
    created_at: AwareDatetime | None = None


class UsageDay(Answered):
    """One day (UTC) of a tenant."""

    date: str
    requests: int = 0
    inputs: int = 0
    input_tokens: int = 0
    context_tokens: int = 0


class Usage(Answered):
    """Inputs and tokens by day."""

    object: str = "usage"
    data: tuple[UsageDay, ...] = ()


class AuditEntry(Answered):
    """Who asked for which change of which object, and what came of it. Without a key, ``key_id`` is None."""

    id: str
    object: str = "audit_entry"
    created_at: AwareDatetime
    action: str
    outcome: str = ""
    key_id: str | None = None
    key_name: str | None = None
    object_id: str | None = None
    status: int | None = None
    request_id: str | None = None


class Webhook(Answered):
    """Where events are sent. ``secret`` is only there in the answer that made it."""

    id: str
    object: str = "webhook"
    url: str
    events: tuple[str, ...] = ()
    created_at: AwareDatetime | None = None
    secret: SecretStr | None = None
