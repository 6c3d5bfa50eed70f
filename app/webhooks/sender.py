"""Sends one delivery: one POST, signed, without redirects, within a deadline. Knows no store."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Final

from httpcore2 import (
    AsyncConnectionPool,
    LocalProtocolError,
    NetworkError,
    ProtocolError,
    TimeoutException,
    UnsupportedProtocol,
)
from standardwebhooks import Webhook

from app.records.webhooks import Delivery
from app.webhooks.addresses import Backend, NotPublic

#: Seconds that a receiver has for its answer.
SEND_SECONDS: Final = 15.0
_FAILURES: Final = (NetworkError, TimeoutException, ProtocolError, LocalProtocolError, UnsupportedProtocol, OSError)


class Sender:
    """Sends deliveries, ``most`` at once; to private addresses only if ``any_address`` is set."""

    def __init__(self, most: int, *, any_address: bool) -> None:
        self._backend = Backend(any_address=any_address)
        # No connection is kept: the next delivery resolves the name anew.
        self._pool = AsyncConnectionPool(
            max_connections=most, max_keepalive_connections=0, network_backend=self._backend
        )

    async def send(self, delivery: Delivery) -> str | None:
        """None once the receiver has answered with a 2xx, else what went wrong, without anything of its answer."""
        now, body = datetime.now(UTC), _body(delivery)
        headers: dict[bytes | str, bytes | str] = {
            "content-type": "application/json",
            "user-agent": "Contextune-Webhooks",
            "webhook-id": delivery.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(delivery.secret).sign(delivery.id, now, body),
        }
        try:
            async with (
                asyncio.timeout(SEND_SECONDS),
                self._pool.stream("POST", delivery.url, headers=headers, content=body.encode()) as response,
            ):
                return None if 200 <= response.status < 300 else f"it answered {response.status}"
        except TimeoutError:
            return f"it did not answer within {SEND_SECONDS:.0f} s"
        except NotPublic:
            return "its address is not public, and CONTEXTUNE_WEBHOOKS allows public ones alone"
        except _FAILURES as error:
            return f"it was not reached: {type(error).__name__}"

    async def close(self) -> None:
        """End the connections."""
        await self._pool.aclose()
        self._backend.close()


def _body(delivery: Delivery) -> str:
    event = {
        "id": delivery.id,
        "object": "event",
        "type": delivery.type,
        "created_at": delivery.created_at.isoformat().replace("+00:00", "Z"),
        "data": {"id": delivery.object_id},
    }
    return json.dumps(event, separators=(",", ":"))
