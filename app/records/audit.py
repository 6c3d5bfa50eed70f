"""The audit log of a tenant: who asked for which change, and how it ended. It holds no texts of users."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from app.contract.access import AuditEntry, Key, Outcome
from app.records.connection import Store, new_id
from app.records.lists import STREAM_CURSOR, Page, read_rows
from app.records.rows import Row

#: Characters of the id of an object that the log keeps: what was asked for in vain may be as long as an address.
_ID_CHARACTERS: Final = 256


class AuditLog:
    """The audit log of a tenant. Every method raises `StoreUnavailable`."""

    def __init__(self, store: Store, tenant: str, keep_seconds: float) -> None:
        self._store = store
        self._tenant = tenant
        self._keep_ms = int(keep_seconds * 1000)

    def append(
        self,
        actor: Key | None,
        action: str,
        object_id: str | None,
        outcome: Outcome = "succeeded",
        status: int | None = None,
        request_id: str | None = None,
    ) -> None:
        """Note a change that was asked for, by whoever had the key ``actor``."""
        given: dict[str, str | int | None] = {
            "key_id": actor.id if actor else None,
            "key_name": actor.name if actor else None,
            "action": action,
            "object_id": object_id and object_id[:_ID_CHARACTERS],
            "outcome": outcome,
            "status": status,
            "request_id": request_id,
        }
        flat = [part for name, value in given.items() if value is not None for part in (name, value)]
        self._store.run("add_audit", self._tenant, self._keep_ms, new_id("write"), *flat)

    def page(self, limit: int, after: str | None = None) -> Page[AuditEntry]:
        """A page of entries, newest first. Raises `UnknownCursor`."""
        return read_rows(self._fetch, limit, after, _entry, STREAM_CURSOR)

    def _fetch(self, upper: str, most: int) -> Any:
        upper = "+" if upper == "+inf" else upper
        return self._store.run("list_audit", self._tenant, upper, most, self._keep_ms)


def _entry(entry_id: str, row: Row) -> AuditEntry:
    milliseconds, _, _ = entry_id.partition("-")
    return AuditEntry(
        id=entry_id,
        created_at=datetime.fromtimestamp(int(milliseconds) / 1000, UTC),
        key_id=row.get("key_id"),
        key_name=row.get("key_name"),
        action=row["action"],
        object_id=row.get("object_id"),
        outcome=row["outcome"],  # type: ignore[arg-type] # validated
        status=int(row["status"]) if "status" in row else None,
        request_id=row.get("request_id"),
    )
