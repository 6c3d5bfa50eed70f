"""What a scrape of the metrics reads anew: the gateway's queue, live workers and devices, the store's queues."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from app.classification.batcher import Batcher
from app.classification.bus import Bus
from app.contract.messages import Announcement
from app.records.connection import StoreUnavailable
from app.records.store import Records
from app.telemetry.metrics import Reading


def readings(records: Records, bus: Bus, batcher: Batcher, models: Sequence[str]) -> Iterator[Reading]:
    """The readings of one scrape; those of a store that does not answer are missing."""
    yield Reading("contextune_bus_up", float(bus.connected))
    for model in models:
        yield Reading("contextune_waiting_inputs", batcher.waiting_inputs(model), (model,))
        yield Reading("contextune_workers", bus.live_workers(model), (model,))
        for announcement in bus.announcements(model):
            if announcement.ready:
                yield from _prefixes(announcement)
    yield from _devices([one for model in models for one in bus.announcements(model)])
    yield from _queues(records, models)


def _prefixes(announcement: Announcement) -> Iterator[Reading]:
    labels, figures = (announcement.model, announcement.worker_id), announcement.prefixes
    yield Reading("contextune_resident_contexts", announcement.resident_contexts, labels)
    if figures is not None:
        yield Reading("contextune_prefix_bytes", figures.bytes, labels)
        yield Reading("contextune_prefix_capacity_bytes", figures.capacity_bytes, labels)
        yield Reading("contextune_prefix_hits", figures.hits, labels)
        yield Reading("contextune_prefix_loads", figures.loads, labels)
        yield Reading("contextune_prefix_evictions", figures.evictions, labels)


def _devices(announcements: Sequence[Announcement]) -> Iterator[Reading]:
    """The devices of workers, once for each worker, whatever number of models it serves."""
    for one in {one.worker_id: one for one in announcements}.values():
        if one.device is not None:
            labels = (one.worker_id, one.device.id)
            yield Reading("contextune_device_free_bytes", one.device.free_bytes, labels)
            yield Reading("contextune_device_total_bytes", one.device.total_bytes, labels)
            yield Reading("contextune_device_busy_seconds", one.busy_seconds, labels)


def _queues(records: Records, models: Sequence[str]) -> Iterator[Reading]:
    try:
        figures = records.figures(models)
    except StoreUnavailable:
        yield Reading("contextune_store_up", 0)
        return
    yield Reading("contextune_store_up", 1)
    yield Reading("contextune_webhook_backlog", figures.webhook_backlog)
    yield Reading("contextune_leases_expired", figures.totals.get("leases_expired", 0))
    yield Reading("contextune_job_attempts", figures.totals.get("attempts", 0))
    for status in ("succeeded", "failed", "cancelled"):
        yield Reading("contextune_jobs_ended", figures.totals.get(f"jobs_{status}", 0), (status,))
    for queue in figures.queues:
        yield Reading("contextune_jobs", queue.queued, (queue.model, "queued"))
        yield Reading("contextune_jobs", queue.running, (queue.model, "running"))
        yield Reading("contextune_queued_seconds", queue.queued_seconds, (queue.model,))
