"""Webhooks of a tenant, and the outbox of deliveries that wait to be sent.

The script that ends a job puts a delivery for each webhook into the outbox; the outbox is of all tenants.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, cast

import structlog

from app.contract.webhooks import EventType, Webhook
from app.records.connection import Store, new_id
from app.records.contexts import TenantGone
from app.records.idempotency import Answered, ClaimLost
from app.records.rows import FORMAT, NewerFormat, refuse_newer, row_of

#: Webhooks of a tenant, at most: each of them is another write of the script that ends a job.
MAX_WEBHOOKS: Final = 16
#: Seconds that a gateway has to say what came of a delivery that it took.
_LEASE_SECONDS: Final = 60


@dataclass(frozen=True)
class Delivery:
    """An event on its way to a webhook."""

    tenant: str
    id: str
    webhook_id: str
    url: str
    secret: str
    type: str
    object_id: str
    created_at: datetime
    attempts: int

    @property
    def receiver(self) -> str:
        """Its webhook among those of all tenants."""
        return f"{self.tenant}:{self.webhook_id}"


class Webhooks:
    """The webhooks of a tenant. Every method raises `StoreUnavailable`."""

    def __init__(self, store: Store, tenant: str) -> None:
        self._store = store
        self._tenant = tenant

    def create(
        self,
        url: str,
        events: Sequence[EventType],
        answered: Answered | None = None,
        webhook_id: str | None = None,
    ) -> tuple[Webhook, str] | None:
        """A new webhook and its secret, which nothing shows again; None when the tenant has `MAX_WEBHOOKS`.

        ``answered`` is kept under its idempotency key by the same script. Raises `TenantGone` and `ClaimLost`.
        """
        webhook_id, secret = webhook_id or new_id("whk"), f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
        row = {"format": FORMAT, "url": url, "events": ",".join(events), "secret": secret}
        claim = answered.as_json() if answered else "null"
        created = self._store.run("create_webhook", self._tenant, webhook_id, json.dumps(row), MAX_WEBHOOKS, claim)
        if created in ("gone", "lost"):
            raise TenantGone if created == "gone" else ClaimLost
        return (_webhook(webhook_id, row_of(created)), secret) if created else None

    def get(self, webhook_id: str) -> Webhook | None:
        """The webhook with this id."""
        return next((one for one in self.all() if one.id == webhook_id), None)

    def all(self) -> list[Webhook]:
        """All webhooks, newest first; one of a newer format is left out and logged."""
        found = []
        for webhook_id, flat in cast("list[tuple[str, list[str]]]", self._store.run("list_webhooks", self._tenant)):
            try:
                found.append(_webhook(webhook_id, row_of(flat)))
            except NewerFormat as error:
                structlog.get_logger().warning("row_left_out", reason=str(error))
        return found

    def delete(self, webhook_id: str) -> None:
        """Forget a webhook; what waits for it is not sent."""
        self._store.run("delete_webhook", self._tenant, webhook_id)


class Outbox:
    """The deliveries of all tenants. Every method raises `StoreUnavailable`."""

    def __init__(self, store: Store, keep_seconds: float) -> None:
        self._store = store
        self._keep_seconds = keep_seconds

    def take(self, receivers: int, of_each: int, left_alone: Iterable[str] = ()) -> list[Delivery]:
        """Deliveries that are due to ``receivers`` webhooks at most, those of a webhook together, oldest first.

        They are due again in a minute unless something is said of them. None is of a ``Delivery.receiver`` that is to
        be left alone.
        """
        taken = self._store.run("take_deliveries", _LEASE_SECONDS * 1000, receivers, of_each, *left_alone)
        return [
            _delivery(member, url, secret, row_of(flat)) for member, url, secret, flat in cast("list[list[str]]", taken)
        ]

    def delivered(self, delivery: Delivery) -> None:
        """Forget a delivery that has arrived."""
        self._store.run("settle_delivery", delivery.tenant, delivery.id, "", "")

    def failed(self, delivery: Delivery, seconds: float) -> bool:
        """Try again after ``seconds``; False when the delivery is too old for that, and forgotten."""
        answer = self._store.run(
            "settle_delivery", delivery.tenant, delivery.id, int(seconds * 1000), int(self._keep_seconds * 1000)
        )
        return bool(answer)


def _webhook(webhook_id: str, row: dict[str, str]) -> Webhook:
    refuse_newer("webhook", webhook_id, row)
    return Webhook(
        id=webhook_id,
        url=row["url"],
        events=tuple(EventType(name) for name in row["events"].split(",") if name in set(EventType)),
        created_at=_time(row["created_at"]),
    )


def _delivery(member: str, url: str, secret: str, row: dict[str, str]) -> Delivery:
    tenant, _, delivery_id = member.partition(":")
    return Delivery(
        tenant=tenant,
        id=delivery_id,
        webhook_id=row["webhook"],
        url=url,
        secret=secret,
        type=row["type"],
        object_id=row["object"],
        created_at=_time(row["created_at"]),
        attempts=int(row.get("attempts", 0)),
    )


def _time(milliseconds: str) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
