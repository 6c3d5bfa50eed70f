"""The dispatcher: takes due deliveries from the outbox, sends them, and notes what came of it.

Any number of gateways may dispatch. A delivery that a gateway has taken is due again when the gateway says nothing of
it within its lease, so each event arrives at least once.
"""

from __future__ import annotations

import asyncio
import random
from typing import Final

import structlog

from app.records.connection import StoreUnavailable
from app.records.store import Records
from app.records.webhooks import Delivery
from app.webhooks.sender import Sender

_LOOK_SECONDS: Final = 1.0
#: Seconds until each next try; the last of them goes on until the delivery is given up.
_BACKOFF_SECONDS: Final = (5, 30, 120, 600, 1800, 3600)


def backoff_seconds(attempts: int) -> float:
    """How long a delivery waits after so many failed tries, with a jitter of a tenth either way."""
    return _BACKOFF_SECONDS[min(attempts, len(_BACKOFF_SECONDS)) - 1] * random.uniform(0.9, 1.1)  # noqa: S311


async def dispatch_forever(records: Records, *, any_address: bool) -> None:
    """Send what is due, once a second, until cancelled."""
    sender = Sender(any_address=any_address)
    try:
        while True:
            if not await dispatch_due(records, sender):
                await asyncio.sleep(_LOOK_SECONDS)
    finally:
        await sender.close()


async def dispatch_due(records: Records, sender: Sender) -> int:
    """Send the deliveries that are due, and return how many there were; 0 while the store does not answer."""
    log = structlog.get_logger()
    try:
        due = await asyncio.to_thread(records.outbox.take)
        await asyncio.gather(*(_deliver(records, sender, delivery) for delivery in due))
    except StoreUnavailable as error:
        log.warning("store_unavailable", reason=str(error))
        return 0
    except Exception as error:
        # Without a dispatcher no webhook would be sent any more.
        log.error("dispatch_failed", exc_info=error)
        return 0
    return len(due)


async def _deliver(records: Records, sender: Sender, delivery: Delivery) -> None:
    log = structlog.get_logger().bind(webhook_id=delivery.webhook_id, event_id=delivery.id)
    try:
        fault = await sender.send(delivery)
    except Exception as error:
        # It is a failed try like any other, else the delivery would be tried for ever.
        log.error("webhook_not_sent", exc_info=error)
        fault = f"it could not be sent: {type(error).__name__}"
    if fault is None:
        await asyncio.to_thread(records.outbox.delivered, delivery)
        return
    attempts = delivery.attempts + 1
    kept = await asyncio.to_thread(records.outbox.failed, delivery, backoff_seconds(attempts))
    log.warning("webhook_failed" if kept else "webhook_given_up", attempts=attempts, reason=fault)
