"""What a gateway works with to admit requests, and what it does about access for as long as it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from app.access.callers import Callers
from app.access.first_key import ensure_first_key
from app.access.limits import Limiter
from app.access.meter import Meter
from app.config import Settings
from app.records.access import TenantDeleting
from app.records.connection import StoreUnavailable
from app.records.store import Records

_RETRY_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Access:
    """Who calls, how much they may ask for, and what is noted of it."""

    callers: Callers
    limiter: Limiter
    meter: Meter


@asynccontextmanager
async def open_access(settings: Settings, records: Records, bus_url: str) -> AsyncIterator[Access]:
    """Access for the life of a gateway. Neither store nor bus need be up yet."""
    access = Access(Callers(records.access, settings), Limiter(bus_url), Meter(records))
    tasks = [
        asyncio.create_task(_ensure_first_key(settings, records)),
        asyncio.create_task(access.meter.write_forever()),
    ]
    try:
        yield access
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await access.meter.try_to_write()
        await access.limiter.close()
        access.callers.close()


async def _ensure_first_key(settings: Settings, records: Records) -> None:
    """Make or store the key that the service begins with, as soon as the store answers."""
    while True:
        try:
            return await asyncio.to_thread(ensure_first_key, settings, records)
        except (StoreUnavailable, TenantDeleting):
            await asyncio.sleep(_RETRY_SECONDS)
        except OSError as error:
            hint = "make the data folder writable, or set CONTEXTUNE_ADMIN_KEY"
            structlog.get_logger().error("first_key_not_written", reason=str(error), hint=hint)
            return None
