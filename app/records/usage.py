"""What a tenant's requests to classify took, by day of the store's clock (UTC)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Final

from app.contract.access import UsageDay
from app.records.connection import Store
from app.records.lists import read_page
from app.records.rows import Row

_DAY_MS: Final = 24 * 3600 * 1000
_EPOCH: Final = date(1970, 1, 1)
_FIELDS: Final = ("requests", "inputs", "input_tokens", "context_tokens")


class Usage:
    """The usage of a tenant. Every method raises `StoreUnavailable`."""

    def __init__(self, store: Store, tenant: str, keep_seconds: float) -> None:
        self._store = store
        self._tenant = tenant
        self._keep_ms = int(keep_seconds * 1000)

    def add(self, used: Mapping[str, int], meter: str, write: int) -> None:
        """Add to what was used today, by the names of `UsageDay`.

        ``write`` counts from 1 what was added by ``meter``, an id; what is added again counts once. The one after may
        follow once this has returned.
        """
        flat = [part for pair in used.items() for part in pair]
        self._store.run("add_usage", self._tenant, self._keep_ms, meter, write, *flat)

    def days(self) -> tuple[UsageDay, ...]:
        """All days that are kept and had a request, newest first."""
        most = self._keep_ms // _DAY_MS + 2
        return read_page(self._store, self._tenant, "usage", [], most, None, _day).data


def _day(day: str, row: Row) -> UsageDay:
    used = {name: int(row.get(name, 0)) for name in _FIELDS}
    return UsageDay(date=_EPOCH + timedelta(days=int(day)), **used)
