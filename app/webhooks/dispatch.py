"""The dispatcher: takes due deliveries from the outbox, sends them, and notes what came of it.

Any number of gateways may dispatch. A delivery that a gateway has taken is due again when the gateway says nothing of
it within its lease, so each event arrives at least once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final

import structlog

from app.records.connection import StoreUnavailable
from app.records.store import Records
from app.records.webhooks import Delivery
from app.webhooks.sender import Sender

_LOOK_SECONDS: Final = 1.0
#: Webhooks that are sent to at once, and deliveries that are under way to each.
_MOST_RECEIVERS: Final = 64
_MOST_OF_EACH: Final = 4
#: Seconds until each next try; the last of them goes on until the delivery is given up.
_BACKOFF_SECONDS: Final = (5, 30, 120, 600, 1800, 3600)


def backoff_seconds(attempts: int) -> float:
    """How long a delivery waits after so many failed tries, with a jitter of a tenth either way."""
    return _BACKOFF_SECONDS[min(attempts, len(_BACKOFF_SECONDS)) - 1] * random.uniform(0.9, 1.1)  # noqa: S311


async def dispatch_forever(records: Records, *, any_address: bool) -> None:
    """Send what is due, until cancelled."""
    dispatcher = Dispatcher(records, any_address=any_address)
    try:
        while True:
            await dispatcher.send_due()
            await dispatcher.pause()
    finally:
        await dispatcher.close()


class Dispatcher:
    """Sends deliveries to each webhook apart: a webhook that does not answer holds up its own deliveries alone.

    They go to private addresses only if ``any_address`` is set.
    """

    def __init__(self, records: Records, *, any_address: bool) -> None:
        self._outbox = records.outbox
        self._sender = Sender(_MOST_RECEIVERS * _MOST_OF_EACH, any_address=any_address)
        self._rounds: dict[str, asyncio.Task[None]] = {}

    async def send_due(self) -> int:
        """Begin to send what is due to webhooks that nothing is being sent to, and return how many deliveries.

        None is sent while the store does not answer.
        """
        log = structlog.get_logger()
        self._rounds = {receiver: task for receiver, task in self._rounds.items() if not task.done()}
        free = _MOST_RECEIVERS - len(self._rounds)
        try:
            due = await asyncio.to_thread(self._outbox.take, free, _MOST_OF_EACH, tuple(self._rounds)) if free else []
        except StoreUnavailable as error:
            log.warning("store_unavailable", reason=str(error))
            return 0
        except Exception as error:
            # Without a dispatcher no webhook would be sent any more.
            log.error("dispatch_failed", exc_info=error)
            return 0
        for receiver, deliveries in groupby(due, key=attrgetter("receiver")):
            self._rounds[receiver] = asyncio.create_task(self._send(list(deliveries)))
        return len(due)

    async def pause(self) -> None:
        """Return when something may be due: once a webhook has had what was begun, or after a second."""
        if self._rounds:
            await asyncio.wait(self._rounds.values(), timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(_LOOK_SECONDS)

    async def finish(self) -> None:
        """Return when all that was begun is sent."""
        await asyncio.gather(*self._rounds.values())

    async def close(self) -> None:
        """Give up what is being sent: it is due again after its lease."""
        for task in self._rounds.values():
            task.cancel()
        await asyncio.gather(*self._rounds.values(), return_exceptions=True)
        await self._sender.close()

    async def _send(self, deliveries: Sequence[Delivery]) -> None:
        for outcome in await asyncio.gather(*map(self._deliver, deliveries), return_exceptions=True):
            if isinstance(outcome, StoreUnavailable):
                structlog.get_logger().warning("store_unavailable", reason=str(outcome))
            elif isinstance(outcome, Exception):
                structlog.get_logger().error("dispatch_failed", exc_info=outcome)

    async def _deliver(self, delivery: Delivery) -> None:
        log = structlog.get_logger().bind(webhook_id=delivery.webhook_id, event_id=delivery.id)
        try:
            fault = await self._sender.send(delivery)
        except Exception as error:
            # It is a failed try like any other, else the delivery would be tried for ever.
            log.error("webhook_not_sent", exc_info=error)
            fault = f"it could not be sent: {type(error).__name__}"
        if fault is None:
            await asyncio.to_thread(self._outbox.delivered, delivery)
            return
        attempts = delivery.attempts + 1
        kept = await asyncio.to_thread(self._outbox.failed, delivery, backoff_seconds(attempts))
        log.warning("webhook_failed" if kept else "webhook_given_up", attempts=attempts, reason=fault)
