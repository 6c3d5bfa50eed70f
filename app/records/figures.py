"""Figures of the queues, of all tenants together: what an operator scales workers by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.records.connection import Store
from app.records.rows import row_of


@dataclass(frozen=True)
class Queue:
    """The jobs of a model: queued ones, the seconds that they need together as estimated, and running ones."""

    model: str
    queued: int
    queued_seconds: float
    running: int


@dataclass(frozen=True)
class Figures:
    """The queues of models, how many events wait to be told to webhooks, and what was counted since the store began.

    ``totals``: ``leases_expired``, ``attempts``, and ``jobs_succeeded``, ``jobs_failed`` and ``jobs_cancelled``.
    """

    queues: tuple[Queue, ...]
    webhook_backlog: int
    totals: dict[str, int]


def read_figures(store: Store, models: Sequence[str]) -> Figures:
    """The figures now. Raises `StoreUnavailable`."""
    totals, backlog, *flat = store.run("figures", *models)
    rows = zip(models, flat[::3], flat[1::3], flat[2::3], strict=True)
    queues = tuple(Queue(model, queued, need / 1000, running) for model, queued, need, running in rows)
    return Figures(queues, backlog, {name: int(count) for name, count in row_of(totals).items()})
