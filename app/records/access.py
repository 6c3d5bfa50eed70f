"""Keys and tenants, of all tenants. A key is known by the hash of its secret; the secret is never here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Literal, cast

from pydantic import TypeAdapter

from app.contract.access import Key, KeyLimits, Scope, Tenant, TenantLimits
from app.records.connection import Store
from app.records.idempotency import Answered, ClaimLost
from app.records.lists import Page, read_rows
from app.records.rows import FORMAT, Row, optional_time, refuse_newer, row_of, time_of, tolerant

_SCOPES: TypeAdapter[tuple[Scope, ...]] = TypeAdapter(tuple[Scope, ...])

#: On the ``first`` occasion a key is made only if none with the scope admin ever was; a ``configured`` one replaces the
#: last configured one.
Occasion = Literal["asked", "first", "configured"]


class TenantDeleting(Exception):
    """A tenant is being removed, or was in the last ten minutes: nobody can have a key of that name yet."""


class Expired(Exception):
    """A key would have expired before it was made."""


@dataclass(frozen=True)
class FoundKey:
    """A key by the hash of its secret. ``seconds_left`` is until it expires, None where it does not."""

    hash: str
    key: Key
    seconds_left: float | None


@dataclass(frozen=True)
class Lookup:
    """What the store says of a secret: its key, and whether any key, and any with the scope admin, was ever made."""

    found: FoundKey | None
    any_made: bool
    any_admin_made: bool


class AccessRecords:
    """Keys and tenants in the store. Every method raises `StoreUnavailable`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create_key(
        self,
        key_id: str,
        secret_hash: str,
        tenant: str,
        name: str,
        scopes: Sequence[Scope],
        limits: KeyLimits,
        expires_at: datetime | None,
        occasion: Occasion = "asked",
        answered: Answered | None = None,
        asked_by: str = "",
    ) -> Key | None:
        """Make a key, and with its first key the tenant; None if there was nothing to make.

        ``answered`` is kept under its idempotency key, of the tenant ``asked_by``, by the same script. May be repeated
        with the same arguments. Raises `TenantDeleting`, `ClaimLost`, and `Expired` where its end is past.
        """
        fields: dict[str, str | int] = {
            "format": FORMAT,
            "id": key_id,
            "name": name,
            "scopes": _SCOPES.dump_json(tuple(scopes)).decode(),
            "limits": limits.model_dump_json(exclude_none=True),
            "expires_at": "" if expires_at is None else str(int(expires_at.timestamp() * 1000)),
        }
        claim = answered.as_json() if answered else "null"
        given = (tenant, secret_hash, occasion, json.dumps(fields), claim, asked_by)
        outcome, *made = self._store.run("create_key", *given)
        if outcome == "deleting":
            raise TenantDeleting
        if outcome == "lost":
            raise ClaimLost
        if outcome == "expired":
            raise Expired
        return key_from_row(row_of(made[0])) if outcome == "created" else None

    def find(self, secret_hash: str) -> Lookup:
        """What there is to know of a secret with this hash ('' for none)."""
        answer = self._store.run("find_key", secret_hash)
        made, administered, flat, left = cast("tuple[int, int, list[str] | None, int | None]", answer)
        key = key_from_row(row_of(flat)) if flat else None
        found = FoundKey(secret_hash, key, left / 1000 if left else None) if key else None
        return Lookup(found, bool(made), bool(administered))

    def keys(self, limit: int, after: str | None, tenant: str | None) -> Page[Key]:
        """A page of the keys of a tenant, or of all with None, newest first. Raises `UnknownCursor`."""
        fetch = partial(self._fetch, "key", tenant or "")
        return read_rows(fetch, limit, after, lambda _, row: key_from_row(row))

    def delete_key(self, key_id: str, tenant: str | None) -> str | None:
        """Remove a key of a tenant, or of any with None; returns the hash of its secret, None if there is none."""
        return cast("str | None", self._store.run("delete_key", key_id, tenant or ""))

    def touch(self, seconds_since: Mapping[str, float]) -> None:
        """Note how many seconds ago keys were last used, by the hash of their secret."""
        pairs = [part for h, seconds in seconds_since.items() for part in (h, int(seconds * 1000))]
        self._store.run("touch_keys", *pairs)

    # -- tenants -----------------------------------------------------------------------------------------------------

    def tenants(self, limit: int, after: str | None) -> Page[Tenant]:
        """A page of tenants, newest first. Raises `UnknownCursor`."""
        return read_rows(partial(self._fetch, "tenant", ""), limit, after, tenant_from_row)

    def tenant(self, tenant: str) -> Tenant | None:
        """The tenant with this id."""
        flat = self._store.run("get_tenant", tenant)
        return tenant_from_row(tenant, row_of(flat)) if flat else None

    def patch_tenant(self, tenant: str, limits: Mapping[str, int | None]) -> Tenant | None:
        """Set limits of a tenant, or remove them with None; returns the tenant, None if there is none."""
        flat = self._store.run("patch_tenant", tenant, json.dumps(dict(limits)))
        return tenant_from_row(tenant, row_of(flat)) if flat else None

    def delete_tenant(self, tenant: str) -> tuple[str, ...] | None:
        """Revoke the keys of a tenant and mark it; returns the hashes of their secrets, None if there is no tenant."""
        hashes = cast("list[str] | None", self._store.run("delete_tenant", tenant))
        return None if hashes is None else tuple(hashes)

    def deleting(self) -> list[str]:
        """The tenants that are marked."""
        return cast("list[str]", self._store.run("deleting_tenants"))

    def remove_rest(self, tenant: str) -> bool:
        """Remove all that a marked tenant still owns, and it; False while contexts, jobs or their files are left."""
        cursor, left = "0", 0
        while True:
            cursor, more = cast("tuple[str, int]", self._store.run("remove_rest", tenant, cursor))
            left += more
            if cursor == "0":
                break
        return left == 0 and bool(self._store.run("forget_tenant", tenant))

    def _fetch(self, kind: str, tenant: str, upper: str, most: int) -> Any:
        return self._store.run("list_shared", kind, tenant, upper, most)


def key_from_row(row: Row) -> Key:
    """The key of a row. Raises `NewerFormat`."""
    refuse_newer("key", row["id"], row)
    return Key(
        id=row["id"],
        name=row["name"],
        scopes=_SCOPES.validate_json(row["scopes"]),
        tenant=row["tenant"],
        limits=tolerant(KeyLimits, row["limits"]),
        created_at=time_of(row["created_at"]),
        expires_at=optional_time(row, "expires_at"),
        last_used_at=optional_time(row, "last_used_at"),
    )


def tenant_from_row(tenant: str, row: Row) -> Tenant:
    """The tenant of a row. Raises `NewerFormat`."""
    refuse_newer("tenant", tenant, row)
    return Tenant(
        id=tenant,
        status="deleting" if row["status"] == "deleting" else "active",
        limits=tolerant(TenantLimits, row.get("limits") or "{}"),
        created_at=time_of(row["created_at"]),
    )
