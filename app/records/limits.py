"""How much the store takes, and how long it keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DAY_SECONDS: Final = 24 * 3600


@dataclass(frozen=True)
class QueueLimits:
    """Most jobs that may be queued: in all, and of one tenant."""

    all: int = 10_000
    tenant: int = 1_000


@dataclass(frozen=True)
class Retention:
    """How long is kept what ends by itself (seconds).

    Jobs with their events after their end; batches with their files after theirs; what a request with an idempotency
    key made; the counter of a name after its last version, so that no version is given twice; files that somebody began
    to write and nothing refers to; what a webhook was not told yet; lines of the audit log; days of usage.
    """

    jobs: float = 30 * DAY_SECONDS
    batches: float = 30 * DAY_SECONDS
    idempotency: float = DAY_SECONDS
    names: float = 30 * DAY_SECONDS
    unreferenced: float = 3600
    deliveries: float = DAY_SECONDS
    audit: float = 365 * DAY_SECONDS
    usage: float = 400 * DAY_SECONDS
