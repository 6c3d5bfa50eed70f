"""From a job's end to the receiver: real store, real receiver, the signature checked by the standard's own library."""

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, cast

import pytest
import redis
from standardwebhooks import Webhook

from app.contract.webhooks import EventType
from app.records.limits import Retention
from app.records.store import Records, TenantRecords
from app.records.webhooks import Delivery
from app.webhooks.dispatch import Dispatcher, dispatch_forever
from tests.submissions import submission
from tests.waiting import eventually

ALL = tuple(EventType)


@dataclass
class Receiver:
    """What arrived at a receiver, and the status that it answers with."""

    status: int = 204
    location: str | None = None
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.received.append((dict(self.headers.items()), body))
            self.send_response(receiver.status)
            if receiver.location:
                self.send_header("Location", receiver.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_port}/hook"
    Thread(target=server.serve_forever, daemon=True).start()
    yield receiver
    server.shutdown()
    server.server_close()


def dispatch(records: Records, *, any_address: bool = True) -> int:
    async def once() -> int:
        dispatcher = Dispatcher(records, any_address=any_address)
        try:
            sent = await dispatcher.send_due()
            await dispatcher.finish()
            return sent
        finally:
            await dispatcher.close()

    return asyncio.run(once())


def ended_job(tenant: TenantRecords) -> str:
    _, job = tenant.contexts.submit(submission())
    tenant.jobs.cancel(job.id)
    return job.id


def webhook(tenant: TenantRecords, url: str, events: tuple[EventType, ...] = ALL) -> tuple[str, str]:
    created = tenant.webhooks.create(url, events)
    assert created
    return created[0].id, created[1]


def test_end_of_a_job_is_told_once_with_a_signature(
    records: Records, tenant: TenantRecords, receiver: Receiver
) -> None:
    _, secret = webhook(tenant, receiver.url)
    job_id = ended_job(tenant)
    assert dispatch(records) == 1
    ((headers, body),) = receiver.received
    event = Webhook(secret).verify(body, headers)
    assert event["type"] == "job.cancelled"
    assert event["data"] == {"id": job_id}
    assert event["id"] == {name.lower(): value for name, value in headers.items()}["webhook-id"]
    assert dispatch(records) == 0


def test_only_wanted_events_are_told(records: Records, tenant: TenantRecords, receiver: Receiver) -> None:
    webhook(tenant, receiver.url, (EventType.JOB_SUCCEEDED,))
    ended_job(tenant)
    assert dispatch(records) == 0


def test_another_tenant_is_told_nothing(records: Records, tenant: TenantRecords, receiver: Receiver) -> None:
    webhook(records.of("other"), receiver.url)
    ended_job(tenant)
    assert dispatch(records) == 0
    assert tenant.webhooks.all() == []


@pytest.mark.parametrize("status", [500, 404, 302])
def test_refused_event_is_tried_again_with_the_same_id(
    client: redis.Redis, records: Records, tenant: TenantRecords, receiver: Receiver, status: int
) -> None:
    webhook(tenant, receiver.url)
    ended_job(tenant)
    receiver.status, receiver.location = status, receiver.url.replace("/hook", "/elsewhere")
    assert dispatch(records) == 1
    assert dispatch(records) == 0  # it waits for its next try
    (pending,) = take_now(client, records)
    assert pending.attempts == 1
    records.outbox.failed(pending, 0)
    receiver.status = 204
    assert dispatch(records) == 1
    first, second = (json.loads(body)["id"] for _, body in receiver.received)
    assert first == second


def take_now(client: redis.Redis, records: Records) -> list[Delivery]:
    """The deliveries in the outbox, whenever they are due."""
    for queue in ("{ct}:outbox", *cast("list[str]", client.keys("{ct}:t:*:deliveries:*"))):
        for member in cast("list[str]", client.zrange(queue, 0, -1)):
            client.zadd(queue, {member: 0})
    return records.outbox.take(10, 10)


def test_event_is_given_up_when_it_is_too_old(
    client: redis.Redis, records: Records, tenant: TenantRecords, receiver: Receiver
) -> None:
    webhook(tenant, receiver.url)
    ended_job(tenant)
    forgetful = Records(client, retention=Retention(deliveries=0))
    receiver.status = 500
    assert dispatch(forgetful) == 1
    assert take_now(client, records) == []


def test_deleted_webhook_is_told_nothing(
    client: redis.Redis, records: Records, tenant: TenantRecords, receiver: Receiver
) -> None:
    webhook_id, _ = webhook(tenant, receiver.url)
    ended_job(tenant)
    tenant.webhooks.delete(webhook_id)
    assert dispatch(records) == 0
    assert client.keys("*delivery*") == []


def test_private_address_is_not_reached(records: Records, tenant: TenantRecords, receiver: Receiver) -> None:
    webhook(tenant, receiver.url.replace("127.0.0.1", "localhost"))
    ended_job(tenant)
    assert dispatch(records, any_address=False) == 1
    assert receiver.received == []


def test_delivery_that_cannot_even_be_sent_is_a_failed_try_and_holds_up_no_other(
    client: redis.Redis, records: Records, tenant: TenantRecords, receiver: Receiver
) -> None:
    webhook(tenant, "http://[::1/")
    webhook(tenant, receiver.url)
    ended_job(tenant)
    assert dispatch(records) == 2
    assert len(receiver.received) == 1
    (pending,) = take_now(client, records)
    assert (pending.url, pending.attempts) == ("http://[::1/", 1)


def test_receiver_that_never_answers_holds_up_no_other(
    records: Records, tenant: TenantRecords, receiver: Receiver
) -> None:
    async def until_all_are_told() -> None:
        dispatching = asyncio.create_task(dispatch_forever(records, any_address=True))
        await asyncio.to_thread(eventually, lambda: len(receiver.received) >= len(jobs), 60)
        dispatching.cancel()
        await asyncio.wait({dispatching})

    with socket.create_server(("127.0.0.1", 0), backlog=128) as silent:
        webhook(tenant, f"http://127.0.0.1:{silent.getsockname()[1]}/")
        webhook(tenant, receiver.url)
        jobs = {ended_job(tenant) for _ in range(30)}
        asyncio.run(until_all_are_told())
        assert connections(silent) < len(jobs)
    assert {json.loads(body)["data"]["id"] for _, body in receiver.received} == jobs


def connections(server: socket.socket) -> int:
    """How many connections wait to be accepted."""
    server.setblocking(False)
    number = 0
    with suppress(BlockingIOError):
        while True:
            server.accept()[0].close()
            number += 1
    return number


def test_delivery_of_a_gateway_that_died_is_due_again(
    client: redis.Redis, records: Records, tenant: TenantRecords
) -> None:
    webhook(tenant, "http://127.0.0.1:9/")
    ended_job(tenant)
    (taken,) = records.outbox.take(10, 10)
    assert records.outbox.take(10, 10) == []
    (again,) = take_now(client, records)
    assert again.id == taken.id


def test_tenant_has_a_bounded_number_of_webhooks(tenant: TenantRecords) -> None:
    made = [tenant.webhooks.create(f"http://127.0.0.1/{n}", ALL) for n in range(17)]
    assert [one is None for one in made] == [False] * 16 + [True]
    assert tenant.webhooks.all()[0].url == "http://127.0.0.1/15"


def test_webhook_of_a_newer_format_is_left_out_alone(tenant: TenantRecords, client: redis.Redis) -> None:
    made = [tenant.webhooks.create(f"https://example.org/{number}", ALL) for number in range(2)]
    ids = [webhook.id for webhook, _ in filter(None, made)]
    row = f"{{ct}}:t:default:webhook:{ids[0]}"
    client.hset(row, "format", 2)
    client.hdel(row, "url")
    assert [one.id for one in tenant.webhooks.all()] == [ids[1]]
