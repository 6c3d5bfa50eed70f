"""Keys, tenants, audit events and usage as users see them, and what each scope may do."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from app.contract.payload import Payload

#: Ids of tenants are part of store keys, so that they have few characters.
TenantId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,40}$")]

#: More than any service serves; what is beyond would lose precision in the store's numbers.
_LARGEST: Final = 10**12

Limit = Annotated[int, Field(ge=1, le=_LARGEST, strict=True)]


class Scope(StrEnum):
    """What a key may do."""

    READ = "read"
    CLASSIFY = "classify"
    CONTEXTS_WRITE = "contexts:write"
    ADMIN = "admin"
    OPERATOR = "operator"


ALL_SCOPES: Final = tuple(Scope)

_INCLUDED: Final = {
    Scope.CONTEXTS_WRITE: (Scope.READ, Scope.CLASSIFY),
    Scope.ADMIN: (Scope.CONTEXTS_WRITE, Scope.READ, Scope.CLASSIFY),
}


def effective(scopes: Iterable[Scope]) -> frozenset[Scope]:
    """``scopes`` with all that they include. ``operator`` includes none, and none includes it."""
    return frozenset(each for scope in scopes for each in (scope, *_INCLUDED.get(scope, ())))


class KeyLimits(Payload):
    """What a key may ask for each minute; null is as much as there is."""

    requests_per_minute: Limit | None = None
    inputs_per_minute: Limit | None = None


class Key(Payload):
    """A key, without its secret. ``last_used_at`` is written once a minute."""

    id: str
    object: Literal["key"] = "key"
    name: str
    scopes: tuple[Scope, ...]
    tenant: str
    limits: KeyLimits
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    last_used_at: AwareDatetime | None


class NewKey(Key):
    """A key that was just made, with its secret in ``key``: null in the answer to a repeated request."""

    key: str | None


class TenantLimits(Payload):
    """What a tenant may have at once; null is as much as the service takes."""

    queued_jobs: Limit | None = None
    contexts: Limit | None = None
    artifact_bytes: Limit | None = None


class Tenant(Payload):
    """Whose records a key sees. One that is ``deleting`` has no keys any more, and its records are being removed."""

    id: str
    object: Literal["tenant"] = "tenant"
    status: Literal["active", "deleting"]
    limits: TenantLimits
    created_at: AwareDatetime


Outcome = Literal["succeeded", "refused", "failed"]


class AuditEntry(Payload):
    """A change that was asked for: by whom (the key, null where none was needed), of what, and how it ended.

    ``status`` is that of the answer over HTTP, null for a change that was made otherwise.
    """

    id: str
    object: Literal["audit_entry"] = "audit_entry"
    created_at: AwareDatetime
    key_id: str | None
    key_name: str | None
    action: str
    object_id: str | None
    outcome: Outcome
    status: int | None
    request_id: str | None


class UsageDay(Payload):
    """What a tenant's requests to classify took on a day (UTC)."""

    date: date
    requests: int = 0
    inputs: int = 0
    input_tokens: int = 0
    context_tokens: int = 0


class UsageReport(Payload):
    """The days on which a tenant classified, newest first."""

    object: Literal["usage"] = "usage"
    data: tuple[UsageDay, ...]
