"""Traces of requests across gateway and worker, by OpenTelemetry: spans, and what carries them over the bus.

Nothing is traced, and OpenTelemetry is not even imported, unless the environment names an endpoint to send spans to
(``OTEL_EXPORTER_OTLP_ENDPOINT``). All else is OpenTelemetry's own configuration, such as ``OTEL_TRACES_SAMPLER``. No
span holds a text. As with logging, there is one tracer in a process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import structlog

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class _Off:
    """The tracer of a process that traces nothing."""

    on = False

    @contextmanager
    def span(self, name: str, parent: str | None, attributes: dict[str, Any]) -> Iterator[None]:  # noqa: ARG002
        yield None

    def record(self, name: str, parent: str, times: tuple[int, int], attributes: dict[str, Any]) -> None:
        """Keep nothing."""

    def traceparent(self) -> str | None:
        return None

    def name(self, name: str, attributes: dict[str, Any]) -> None:
        """Name nothing."""

    def stop(self) -> None:
        """Stop nothing."""


class _On:
    """OpenTelemetry's tracer, of a service of this name."""

    on = True

    def __init__(self, service: str) -> None:
        from opentelemetry import trace  # noqa: PLC0415 - an extra
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        named = Resource.create() if "OTEL_SERVICE_NAME" in os.environ else Resource.create({"service.name": service})
        self._provider = TracerProvider(resource=named)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("contextune")
        self._propagator = TraceContextTextMapPropagator()
        self._current = trace.get_current_span

    @contextmanager
    def span(self, name: str, parent: str | None, attributes: dict[str, Any]) -> Iterator[None]:
        context = self._context(parent) if parent else None
        with self._tracer.start_as_current_span(name, context, attributes=attributes):
            yield None

    def record(self, name: str, parent: str, times: tuple[int, int], attributes: dict[str, Any]) -> None:
        span = self._tracer.start_span(name, self._context(parent), attributes=attributes, start_time=times[0])
        span.end(times[1])

    def traceparent(self) -> str | None:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return carrier.get("traceparent")

    def name(self, name: str, attributes: dict[str, Any]) -> None:
        self._current().update_name(name)
        self._current().set_attributes(attributes)

    def stop(self) -> None:
        self._provider.shutdown()

    def _context(self, parent: str) -> Any:
        return self._propagator.extract({"traceparent": parent})


_tracer: _Off | _On = _Off()


def start_tracing(service: str) -> None:
    """Trace this process under the name ``service``, if the environment names an endpoint; say so where it cannot."""
    global _tracer  # noqa: PLW0603 - as logging has it
    if not any(os.environ.get(name) for name in _ENDPOINTS):
        return
    try:
        _tracer = _On(service)
    except ImportError as error:
        hint = "pip install 'contextune-server[otel]'"
        structlog.get_logger().error("not_traced", reason=f"{error}; an endpoint for traces is set: {hint}")


def stop_tracing() -> None:
    """Send what was not sent yet."""
    _tracer.stop()


def tracing() -> bool:
    """Whether this process is traced."""
    return _tracer.on


@contextmanager
def span(name: str, parent: str | None = None, **attributes: Any) -> Iterator[None]:
    """A span around a piece of work, below the current span or the remote one that ``parent`` (a traceparent) names."""
    with _tracer.span(name, parent, attributes):
        yield


def record(name: str, parent: str | None, began: float, ended: float, **attributes: Any) -> None:
    """A span of what has been: ``began`` and ``ended`` are on the monotonic clock. None without a ``parent``."""
    if parent is not None and _tracer.on:
        ahead = time.time() - time.monotonic()
        _tracer.record(name, parent, (int((began + ahead) * 1e9), int((ended + ahead) * 1e9)), attributes)


def name_span(name: str, **attributes: Any) -> None:
    """Name the current span anew."""
    _tracer.name(name, attributes)


def traceparent() -> str | None:
    """What carries the current span to another process (W3C Trace Context), if there is one."""
    return _tracer.traceparent()
