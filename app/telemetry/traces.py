"""Spans of what happened to a request between its arrival and its answer."""

from __future__ import annotations

from app.contract.traces import record
from app.telemetry.metrics import BatchTimes


def trace_part(parent: str | None, arrived: float, sent: float, times: BatchTimes) -> None:
    """Record how long a part of a request waited here, and how long its batch was away but not with a worker.

    ``arrived`` and ``sent`` are on the monotonic clock. What the worker did is its own to record.
    """
    if parent is not None:
        record("queue", parent, arrived, sent)
        record("reply", parent, sent + times.away - times.reply, sent + times.away)
