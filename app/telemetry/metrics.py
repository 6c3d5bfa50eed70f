"""The Prometheus metrics of one gateway: what it counted itself, and what the store and the workers say when asked.

One scrape target is enough: figures of workers reach every gateway with their announcements, and those of the queues
are the store's. Labels are bounded: routes, methods, statuses, models and workers, never a user's text, name or id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

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


#: The totals that the store keeps, the same at every gateway: what each means, and the names of its labels.
TOTALS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "contextune_jobs_ended": ("Jobs that ended, of the whole service.", ("status",)),
    "contextune_leases_expired": ("Jobs taken from workers that were lost, of the whole service.", ()),
}
#: The gauges that are read at a scrape: what each means, and the names of its labels.
GAUGES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "contextune_waiting_inputs": ("Inputs that wait in this gateway.", ("model",)),
    "contextune_workers": ("Live workers that are ready.", ("model",)),
    "contextune_resident_contexts": ("Contexts that workers keep ready to answer.", ("model", "worker")),
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
        self._registry = CollectorRegistry()
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
            "Stages of a batch: queue (in this gateway), worker (from message to reply).",
            ("model", "stage"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.batch_inputs = Histogram(
            "contextune_batch_inputs", "Inputs in a batch.", ("model",), buckets=_INPUTS, registry=self._registry
        )
        self.inputs = Counter("contextune_inputs", "Inputs classified.", ("model",), registry=self._registry)
        self.tokens = Counter("contextune_input_tokens", "Their tokens.", ("model",), registry=self._registry)

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
