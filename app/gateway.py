"""What a request handler works with: the settings and the long-lived connections of one gateway process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from app.batcher import Batcher
from app.bus import Bus
from app.config import Settings
from app.jobs import sweep_forever
from app.records.store import Records, connect


@dataclass(frozen=True)
class Gateway:
    """The collaborators of the routes."""

    settings: Settings
    records: Records
    bus: Bus
    batcher: Batcher


@asynccontextmanager
async def open_gateway(settings: Settings) -> AsyncIterator[Gateway]:
    """Connections for the life of a gateway. Neither store nor bus need be up yet.

    Raises ValueError when ``redis_url`` or ``bus_url`` is not set.
    """
    if settings.redis_url is None or settings.bus_url is None:
        raise ValueError("set CONTEXTUNE_REDIS_URL and CONTEXTUNE_BUS_URL, or start everything with `contextune up`")
    client = connect(settings.redis_url)
    records = Records(client)
    bus = Bus(settings.bus_url)
    batcher = Batcher(bus, settings.max_batch_inputs, settings.max_pending_inputs, settings.classify_timeout)
    await bus.start()
    sweeper = asyncio.create_task(sweep_forever(records, settings.artifacts_url))
    try:
        yield Gateway(settings, records, bus, batcher)
    finally:
        sweeper.cancel()
        await asyncio.gather(sweeper, return_exceptions=True)
        await bus.stop()
        client.close()


def _gateway(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


GatewayDep = Annotated[Gateway, Depends(_gateway)]
