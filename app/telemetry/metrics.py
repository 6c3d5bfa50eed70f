"""The Prometheus metrics of one gateway: what it counted itself, and what the store and the workers say when asked.

One scrape target is enough: figures of workers reach every gateway with their announcements and replies, and those of
the queues are the store's. Labels are bounded: routes, methods, statuses, models and live workers, never a user's text,
name or id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.contract.version import VERSION

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

#: Upper bounds of the buckets of latencies (seconds) and of inputs in a batch.
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_INPUTS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Reading:
    """One figure that is read when a scrape asks for it; ``labels`` are values in the order of its metric's names."""

    metric: str
    value: float
    labels: tuple[str, ...] = ()


class BatchTimes(NamedTuple):
    """How long (seconds) a batch waited here, was away, and what the worker says of that; None where it does not."""

    waited: float
    away: float
    in_worker: float | None
    on_device: float | None

    @property
    def reply(self) -> float:
        """How long it was away, but not with the worker."""
        return self.away - min(self.away, self.away if self.in_worker is None else self.in_worker)

    def stages(self) -> tuple[tuple[str, float], ...]:
        """The stages, which together are as long as the request that waited longest."""
        in_worker = self.away - self.reply
        on_device = in_worker if self.on_device is None else min(self.on_device, in_worker)
        return (
            ("queue", self.waited + in_worker - on_device),
            ("device", on_device),
            ("reply", self.reply),
        )


#: The totals that store and workers keep, the same at every gateway: what each means, and the names of its labels.
TOTALS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "contextune_jobs_ended": ("Jobs that ended, of the whole service.", ("status",)),
    "contextune_leases_expired": ("Jobs taken from workers that were lost, of the whole service.", ()),
    "contextune_job_attempts": ("Claims of jobs by workers, of the whole service.", ()),
    "contextune_prefix_hits": ("Batches that found the prefix KV of a context with a worker.", ("model", "worker")),
    "contextune_prefix_loads": ("Prefix KVs that a worker computed.", ("model", "worker")),
    "contextune_prefix_evictions": ("Prefix KVs that a worker removed to make room.", ("model", "worker")),
    "contextune_device_busy_seconds": ("How long a worker's device has computed.", ("worker", "device")),
}
#: The gauges that are read at a scrape: what each means, and the names of its labels.
GAUGES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "contextune_waiting_inputs": ("Inputs that wait in this gateway.", ("model",)),
    "contextune_workers": ("Live workers that are ready.", ("model",)),
    "contextune_resident_contexts": ("Contexts that workers keep ready to answer.", ("model", "worker")),
    "contextune_prefix_bytes": ("Memory of a worker's prefix KVs.", ("model", "worker")),
    "contextune_prefix_capacity_bytes": ("What that may be, but for those in use.", ("model", "worker")),
    "contextune_device_free_bytes": ("Free memory of a worker's device.", ("worker", "device")),
    "contextune_device_total_bytes": ("Memory of a worker's device.", ("worker", "device")),
    "contextune_jobs": ("Jobs by state; queued and running ones are what to scale workers by.", ("model", "status")),
    "contextune_queued_seconds": ("What the queued jobs need together, as estimated.", ("model",)),
    "contextune_webhook_backlog": ("Events that wait to be told to webhooks.", ()),
    "contextune_store_up": ("1 if the store answered this scrape.", ()),
    "contextune_bus_up": ("1 if this gateway is connected to the bus.", ()),
}


class Metrics:
    """The metrics of one gateway."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # when a series began is of no use to anybody here
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        Gauge("contextune_info", "1, with the version.", ("version",), registry=self._registry).labels(VERSION).set(1)
        self.requests = Counter(
            "contextune_requests", "Requests answered.", ("method", "route", "status"), registry=self._registry
        )
        self.request_seconds = Histogram(
            "contextune_request_seconds",
            "From the headers of a request to the end of its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.stage_seconds = Histogram(
            "contextune_classify_stage_seconds",
            "Stages of a batch: queue (waits, here and for the device), device (is computed), reply (all else).",
            ("model", "stage"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.batch_inputs = Histogram(
            "contextune_batch_inputs", "Inputs in a batch.", ("model",), buckets=_INPUTS, registry=self._registry
        )
        self.inputs = Counter("contextune_inputs", "Inputs classified.", ("model",), registry=self._registry)
        self.tokens = Counter("contextune_input_tokens", "Their tokens.", ("model",), registry=self._registry)

    def note_batch(self, model: str, batch: BatchTimes, inputs: int, tokens: Sequence[int]) -> None:
        """Count an answered batch of ``inputs``; ``tokens`` of each that was scored."""
        for stage, seconds in batch.stages():
            self.stage_seconds.labels(model, stage).observe(seconds)
        self.batch_inputs.labels(model).observe(inputs)
        self.inputs.labels(model).inc(len(tokens))
        self.tokens.labels(model).inc(sum(tokens))

    def read_at_scrapes(self, read: Callable[[], Iterable[Reading]]) -> None:
        """Let ``read`` give the gauges and totals of each scrape from now on."""
        self._registry.register(_Readings(read))

    def page(self) -> bytes:
        """All metrics in Prometheus' text format. May block, as long as what it reads does."""
        return generate_latest(self._registry)


class _Readings(Collector):
    def __init__(self, read: Callable[[], Iterable[Reading]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """The gauges and totals of one scrape."""
        families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {
            **{name: GaugeMetricFamily(name, text, labels=labels) for name, (text, labels) in GAUGES.items()},
            **{name: CounterMetricFamily(name, text, labels=labels) for name, (text, labels) in TOTALS.items()},
        }
        for reading in self._read():
            families[reading.metric].add_metric(reading.labels, reading.value)
        yield from families.values()

    def describe(self) -> Iterable[Metric]:
        """Nothing: a registry that asked would read the store before it is up."""
        return ()
