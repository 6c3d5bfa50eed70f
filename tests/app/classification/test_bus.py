"""The gateway's side of a real bus, with a stand-in for the worker on the other side."""

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from app.classification.bus import Bus, BusUnavailable, DeadlineExceeded, NoWorker, WorkerLost
from app.contract.announcements import ANNOUNCE, ANNOUNCEMENT_SECONDS, KEYS
from app.contract.messages import ClassifyBatch, ClassifyReply
from app.contract.names import CLASSIFY_TASK
from app.records.connection import new_id
from app.standalone.embedded import EmbeddedServer
from tests.app.standin import MODEL, StandIn
from tests.waiting import eventually


@pytest.fixture
def worker(bus_url: str) -> Iterator[StandIn]:
    with StandIn(bus_url) as worker:
        yield worker


@pytest.fixture
def other(bus_url: str) -> Iterator[StandIn]:
    with StandIn(bus_url, "worker-2") as worker:
        yield worker


@asynccontextmanager
async def started(url: str, **options: float) -> AsyncIterator[Bus]:
    bus = Bus(url, **options)
    await bus.start()
    try:
        yield bus
    finally:
        await bus.stop()


async def until(look: Callable[[], Any], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.02)


def calling(bus: Bus, seconds: float = 60) -> asyncio.Task[str]:
    request = ClassifyBatch(id=new_id("batch"), reply_to=bus.reply_channel, model=MODEL, small=True, parts=())
    return asyncio.create_task(bus.call(request, seconds))


def said_in_another_language(client: redis.Redis, place: str, text: str | bytes) -> None:
    client.eval(ANNOUNCE, len(KEYS), *KEYS, 60_000, place, MODEL, text)


def run(url: str, scenario: Callable[[Bus], Awaitable[None]], **options: float) -> None:
    async def whole() -> None:
        async with started(url, **options) as bus:
            await until(lambda: bus.connected)
            await scenario(bus)

    asyncio.run(whole())


def answer(worker: StandIn, taken: dict[str, Any]) -> None:
    worker.say(taken, ClassifyReply(id=taken["id"]))


async def take(worker: StandIn) -> dict[str, Any]:
    return await asyncio.to_thread(worker.take)


def test_call_ends_at_its_deadline_while_connections_come_and_go(bus_url: str) -> None:
    async def scenario(bus: Bus) -> None:
        call = calling(bus, seconds=0.3)
        until_then = time.monotonic() + 5
        while not call.done() and time.monotonic() < until_then:
            bus._note_connected(not bus._connected)
            await asyncio.sleep(0.05)
        with pytest.raises(DeadlineExceeded):
            await call

    run(bus_url, scenario)


def test_each_reply_reaches_its_own_caller(bus_url: str, worker: StandIn) -> None:
    async def scenario(bus: Bus) -> None:
        worker.announce()
        await until(lambda: bus.live_workers(MODEL) == 1)
        calls = [calling(bus) for _ in range(3)]
        taken = [await take(worker) for _ in calls]
        for one in reversed(taken):
            worker.begin(one)
            answer(worker, one)
        replies = [ClassifyReply.model_validate_json(await call).id for call in calls]
        assert sorted(replies) == sorted(one["id"] for one in taken)
        assert len(set(replies)) == 3

    run(bus_url, scenario)


def test_without_a_ready_worker_nothing_is_sent(bus_url: str, worker: StandIn) -> None:
    async def scenario(bus: Bus) -> None:
        with pytest.raises(NoWorker):
            await calling(bus)
        worker.announce(ready=False)
        await until(lambda: bus.announcements(MODEL))
        assert bus.live_workers(MODEL) == 0
        with pytest.raises(NoWorker):
            await calling(bus)

    run(bus_url, scenario, restart_seconds=0.5)


def test_worker_that_withdraws_is_forgotten(bus_url: str, worker: StandIn, other: StandIn) -> None:
    async def scenario(bus: Bus) -> None:
        worker.announce()
        other.announce()
        await until(lambda: bus.live_workers(MODEL) == 2)
        worker.die()
        await until(lambda: bus.live_workers(MODEL) == 1)
        assert bus.live_workers("another model") == 0

    run(bus_url, scenario)


def test_call_just_after_the_last_worker_died_waits_for_the_next_one(
    bus_url: str, worker: StandIn, other: StandIn
) -> None:
    async def scenario(bus: Bus) -> None:
        worker.announce()
        await until(lambda: bus.live_workers(MODEL) == 1)
        bus._changed_at = -math.inf  # connected long ago
        worker.die()
        await until(lambda: bus.live_workers(MODEL) == 0)
        call = calling(bus)
        await asyncio.sleep(0.5)
        assert not call.done()
        other.announce()
        answer(other, await take(other))
        assert await call

    run(bus_url, scenario)


def test_bus_that_is_down_is_unavailable(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with started(f"unix://{tmp_path}/none") as bus:
            assert not bus.connected
            with pytest.raises(BusUnavailable):
                await calling(bus)
            with pytest.raises(BusUnavailable):
                await bus.send("task", "queue", "payload")

    asyncio.run(scenario())


def test_missed_deadline_ends_the_call(bus_url: str, worker: StandIn) -> None:
    async def scenario(bus: Bus) -> None:
        worker.announce()
        await until(lambda: bus.live_workers(MODEL))
        call = calling(bus, seconds=0.1)
        taken = await take(worker)
        worker.begin(taken)
        with pytest.raises(DeadlineExceeded):
            await call
        answer(worker, taken)  # too late, and to nobody's harm
        call = calling(bus)
        answer(worker, await take(worker))
        await call

    run(bus_url, scenario)


def test_lost_message_is_sent_again_and_once_more_if_its_worker_dies(
    bus_url: str, worker: StandIn, other: StandIn
) -> None:
    async def scenario(bus: Bus) -> None:
        with_worker = asyncio.create_task(_keep_announcing(worker))
        await until(lambda: bus.live_workers(MODEL))
        call = calling(bus)
        lost, again = await take(worker), await take(worker)
        assert again | {"expires_at": 0} == lost | {"expires_at": 0}
        worker.begin(again)
        with_worker.cancel()
        other.announce()
        worker.die()
        answer(other, await take(other))
        assert await call

    run(bus_url, scenario, untaken_seconds=1)


async def _keep_announcing(worker: StandIn) -> None:
    while True:
        await asyncio.to_thread(worker.announce)
        await asyncio.sleep(1)


def test_message_of_a_dead_worker_is_sent_to_another(bus_url: str, worker: StandIn, other: StandIn) -> None:
    async def scenario(bus: Bus) -> None:
        worker.announce()
        other.announce()
        await until(lambda: bus.live_workers(MODEL) == 2)
        call = calling(bus)
        taken = await take(worker)
        worker.begin(taken)
        worker.die()
        again = await take(other)
        assert (again["id"], taken["turn"], again["turn"]) == (taken["id"], 0, 1)
        answer(other, again)
        assert ClassifyReply.model_validate_json(await call).id == taken["id"]

    run(bus_url, scenario)


def test_message_waits_for_the_worker_that_comes_after_a_dead_one(
    bus_url: str, worker: StandIn, other: StandIn
) -> None:
    async def scenario(bus: Bus) -> None:
        worker.announce()
        await until(lambda: bus.live_workers(MODEL) == 1)
        call = calling(bus)
        worker.begin(await take(worker))
        worker.die()
        await until(lambda: bus.live_workers(MODEL) == 0)
        other.announce()
        answer(other, await take(other))
        assert await call

    run(bus_url, scenario)


def test_message_waits_for_a_worker_that_loads_and_not_for_ever_where_none_does(
    bus_url: str, worker: StandIn, other: StandIn
) -> None:
    async def scenario() -> None:
        async with started(bus_url, workerless_seconds=0.3) as bus:
            worker.announce()
            await until(lambda: bus.live_workers(MODEL) == 1)
            call = calling(bus)
            worker.begin(await take(worker))
            other.announce(ready=False)
            await until(lambda: len(bus.announcements(MODEL)) == 2)
            worker.die()
            await until(lambda: bus.live_workers(MODEL) == 0)
            again = await take(other)  # it is sent again once its worker is found dead
            assert (await asyncio.wait({call}, timeout=1.5)) == (set(), {call})
            other.announce()
            answer(other, again)
            assert await call
            call = calling(bus)
            await take(other)
            other.die()
            with pytest.raises(NoWorker):
                await call

    asyncio.run(scenario())


def test_message_over_which_two_workers_died_is_given_up(bus_url: str, worker: StandIn, other: StandIn) -> None:
    async def scenario(bus: Bus) -> None:
        for one in (worker, other):
            one.announce()
        await until(lambda: bus.live_workers(MODEL) == 2)
        call = calling(bus)
        for one in (worker, other):
            one.begin(await take(one))
            one.die()
        with pytest.raises(WorkerLost):
            await call

    run(bus_url, scenario)


def test_calls_survive_a_restart_of_the_bus(another_server: EmbeddedServer) -> None:
    def restart() -> None:
        another_server.stop()
        another_server.start()
        eventually(another_server.answers)

    async def scenario(bus: Bus) -> None:
        with StandIn(another_server.url) as worker:
            worker.announce()
            await until(lambda: bus.live_workers(MODEL))
            begun, waiting = calling(bus), calling(bus)
            worker.begin(await take(worker))
            await asyncio.to_thread(restart)
        with StandIn(another_server.url) as worker:
            worker.announce()
            for _ in range(2):
                answer(worker, await take(worker))
            assert await begun
            assert await waiting
            await until(lambda: bus.live_workers(MODEL))
            after = calling(bus)
            answer(worker, await take(worker))
            assert await after

    run(another_server.url, scenario)


def test_call_goes_on_while_the_bus_comes_and_goes(another_server: EmbeddedServer) -> None:
    async def scenario(bus: Bus) -> None:
        with StandIn(another_server.url) as worker:
            worker.announce()
            await until(lambda: bus.live_workers(MODEL))
            call = calling(bus)
            worker.begin(await take(worker))
        await asyncio.to_thread(another_server.stop)
        await until(lambda: not bus.connected)
        assert not call.done()
        with pytest.raises(BusUnavailable):
            await calling(bus)
        another_server.start()
        await until(lambda: bus.connected)
        with StandIn(another_server.url) as worker:
            worker.announce()
            answer(worker, await take(worker))
            assert await call

    run(another_server.url, scenario)


def test_message_that_cannot_be_sent_as_the_bus_goes_is_sent_when_it_is_back(another_server: EmbeddedServer) -> None:
    async def scenario(bus: Bus) -> None:
        with StandIn(another_server.url) as worker:
            worker.announce()
            await until(lambda: bus.live_workers(MODEL))
        another_server.stop()  # on the event loop, so that nobody has noticed yet
        assert bus.connected
        call = calling(bus)
        await until(lambda: not bus.connected)
        await asyncio.to_thread(another_server.start)
        with StandIn(another_server.url) as worker:
            await until(lambda: bus.connected)
            worker.announce()
            answer(worker, await take(worker))
            assert await call

    run(another_server.url, scenario)


def test_call_just_after_a_restart_waits_for_the_workers_to_be_announced_again(another_server: EmbeddedServer) -> None:
    async def scenario(bus: Bus) -> None:
        with StandIn(another_server.url) as worker:
            worker.announce()
            await until(lambda: bus.live_workers(MODEL))
        await asyncio.to_thread(another_server.stop)
        await until(lambda: not bus.connected)
        early = calling(bus)
        another_server.start()
        await until(lambda: bus.connected and not bus.live_workers(MODEL))
        late = calling(bus)
        with StandIn(another_server.url) as worker:
            worker.announce()
            for _ in range(2):
                answer(worker, await take(worker))
            assert await early
            assert await late

    run(another_server.url, scenario)


def test_what_cannot_be_read_harms_nobody(bus_url: str, worker: StandIn) -> None:
    async def scenario(bus: Bus) -> None:
        with redis.Redis.from_url(bus_url) as client:
            said_in_another_language(
                client, "newer", '{"worker_id": "newer", "model": "tiny", "ready": 1, "format": 99}'
            )
            said_in_another_language(client, "other", '{"speaks": "another language"}')
            said_in_another_language(client, "garbled", b"\xff\xfe")
            for text in ("{", "[]", '{"id": 7}', '{"id": "unknown"}', "", b"\xff\xfe"):
                client.publish(bus.reply_channel, text)
        worker.announce()
        await until(lambda: bus.live_workers(MODEL) == 1)
        call = calling(bus)
        answer(worker, await take(worker))
        assert await call

    run(bus_url, scenario)


def test_nothing_that_fails_ends_the_listening_or_the_watching(bus_url: str, worker: StandIn) -> None:
    async def scenario(bus: Bus) -> None:
        with redis.Redis.from_url(bus_url) as client:
            worker.announce()
            await until(lambda: bus.live_workers(MODEL) == 1)
            said_in_another_language(client, "garbled", b"\xff")
            client.publish(bus.reply_channel, b"\xff")
            await until(lambda: bus.live_workers(MODEL) == 0)  # no look has succeeded for long
            client.delete(*KEYS)
            worker.announce()
            await until(lambda: bus.live_workers(MODEL) == 1)
            await until(lambda: bus.connected and client.publish(bus.reply_channel, "") == 1)

    run(f"{bus_url}?encoding_errors=strict", scenario)


def test_workers_stay_known_while_the_bus_is_away_for_a_moment(another_server: EmbeddedServer) -> None:
    async def scenario(bus: Bus) -> None:
        with StandIn(another_server.url) as worker:
            worker.announce()
            await until(lambda: bus.live_workers(MODEL))
        await asyncio.to_thread(another_server.stop)
        lost_at = time.monotonic()
        await until(lambda: not bus.live_workers(MODEL))
        assert time.monotonic() - lost_at > ANNOUNCEMENT_SECONDS / 2  # several failed looks

    run(another_server.url, scenario)


def test_stopping_fails_the_calls_that_wait(bus_url: str, worker: StandIn, tmp_path: Path) -> None:
    async def scenario(bus: Bus) -> None:
        worker.announce()
        await until(lambda: bus.live_workers(MODEL) == 1)
        call = calling(bus)
        await take(worker)
        await bus.stop()
        for after in (call, calling(bus)):
            with pytest.raises(BusUnavailable):
                await after

    run(bus_url, scenario)


def test_no_text_is_in_what_celery_may_log(bus_url: str) -> None:
    async def scenario(bus: Bus) -> None:
        await bus.send(CLASSIFY_TASK, "classify.logged", "a private text")
        with redis.Redis.from_url(bus_url, decode_responses=True) as client:
            message = json.loads(client.lindex("classify.logged", 0))
        assert message["headers"]["argsrepr"] == "(14 characters)"
        assert "private" not in json.dumps(message["headers"])

    run(bus_url, scenario)
