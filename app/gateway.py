"""What a request handler works with: the settings and the long-lived connections of one gateway process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Final

from fastapi import Depends, Request

from app.access.access import Access, open_access
from app.access.callers import Caller
from app.admin.sweeping import sweep_forever
from app.classification.admission import Load
from app.classification.batcher import Batcher
from app.classification.bus import Bus
from app.config import Settings
from app.events.feed import Feed
from app.events.reads import JobReads
from app.events.streams import EventStreams
from app.jobs.waiting import JobWaits
from app.readings import readings
from app.records.connection import connect
from app.records.limits import DAY_SECONDS, QueueLimits, Retention
from app.records.store import Records, TenantRecords
from app.telemetry.metrics import Metrics
from app.webhooks.dispatch import dispatch_forever

#: Threads for calls that block, most of which wait for the store: asyncio's own default is a few for each core.
_THREADS: Final = 64


@dataclass(frozen=True)
class Gateway:
    """The collaborators of the routes."""

    settings: Settings
    records: Records
    bus: Bus
    batcher: Batcher
    metrics: Metrics
    reads: JobReads
    waits: JobWaits
    streams: EventStreams
    access: Access
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))


@asynccontextmanager
async def open_gateway(settings: Settings, stopping: asyncio.Event) -> AsyncIterator[Gateway]:
    """Connections and threads for the life of a gateway. Neither store nor bus need be up yet.

    Requests that wait for a job end early once ``stopping`` is set. Raises ValueError when ``store_url`` or ``bus_url``
    is not set.
    """
    if settings.store_url is None or settings.bus_url is None:
        raise ValueError("set CONTEXTUNE_STORE_URL and CONTEXTUNE_BUS_URL, or start everything with `contextune up`")
    threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="gateway")
    asyncio.get_running_loop().set_default_executor(threads)
    client = connect(settings.store_url)
    records = Records(client, *bounds(settings), settings.artifacts_url)
    bus = Bus(settings.bus_url)
    most = Load(settings.max_pending_inputs, settings.max_pending_bytes)
    metrics = Metrics()
    batcher = Batcher(bus, settings.max_batch_inputs, most, settings.max_wait, settings.classify_timeout, metrics)
    metrics.read_at_scrapes(partial(readings, records, bus, batcher, settings.models))
    feed = Feed(settings.store_url)
    feed.start()
    await bus.start()
    tasks = [asyncio.create_task(sweep_forever(records, settings.artifacts_url))]
    if settings.webhooks != "off":
        tasks.append(asyncio.create_task(dispatch_forever(records, any_address=settings.webhooks == "any")))
    try:
        reads = JobReads()
        waits, streams = JobWaits(feed, reads, stopping), EventStreams(feed, reads, stopping)
        async with open_access(settings, records, settings.bus_url) as access:
            yield Gateway(settings, records, bus, batcher, metrics, reads, waits, streams, access)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await feed.stop()
        await bus.stop()
        await _ended(threads)
        client.close()  # a thread that still ran would open a connection anew


async def _ended(threads: ThreadPoolExecutor) -> None:
    """Return once what they do is done; what waits for one of them is dropped."""
    with ThreadPoolExecutor(1) as another:
        end = partial(threads.shutdown, cancel_futures=True)
        await asyncio.get_running_loop().run_in_executor(another, end)


def bounds(settings: Settings) -> tuple[QueueLimits, Retention]:
    """How much the store takes, and how long it keeps it."""
    limits = QueueLimits(settings.max_queued_jobs, settings.max_queued_jobs_per_tenant)
    retention = Retention(
        jobs=settings.keep_jobs_days * DAY_SECONDS,
        batches=settings.keep_batches_days * DAY_SECONDS,
        idempotency=settings.keep_idempotency_hours * 3600,
        names=settings.keep_names_days * DAY_SECONDS,
        deliveries=settings.keep_deliveries_hours * 3600,
        audit=settings.keep_audit_days * DAY_SECONDS,
        usage=settings.keep_usage_days * DAY_SECONDS,
    )
    return limits, retention


async def _gateway(request: Request) -> Gateway:  # not async, it would be run in a thread
    gateway: Gateway = request.app.state.gateway
    return gateway


GatewayDep = Annotated[Gateway, Depends(_gateway)]


async def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


#: Who makes the request; only where the route `needs` a scope.
CallerDep = Annotated[Caller, Depends(_caller)]


async def _records(gateway: GatewayDep, caller: CallerDep) -> TenantRecords:
    return gateway.records.of(caller.tenant)


#: The records of the caller's tenant: all that a route may read or change of contexts and jobs.
RecordsDep = Annotated[TenantRecords, Depends(_records)]
