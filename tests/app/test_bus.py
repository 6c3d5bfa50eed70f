"""The gateway's side of a real bus, with a stand-in for the worker on the other side."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from app.bus import Bus, BusUnavailable, DeadlineExceeded, NoWorker, WorkerLost
from app.contract.batches import ClassifyBatch, ClassifyReply
from app.contract.names import CLASSIFY_TASK, announcement_key
from app.embedded import EmbeddedServer
from app.records.store import new_id
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
async def started(url: str) -> AsyncIterator[Bus]:
    bus = Bus(url)
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


def request(bus: Bus, seconds: float = 60) -> ClassifyBatch:
    return ClassifyBatch(
        id=new_id("batch"), reply_to=bus.reply_channel, expires_at=time.time() + seconds, model=MODEL, parts=()
    )


def calling(bus: Bus, seconds: float = 60) -> asyncio.Task[str]:
    return asyncio.create_task(bus.call(CLASSIFY_TASK, request(bus, seconds)))


def run(url: str, scenario: Callable[[Bus], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with started(url) as bus:
            await until(lambda: bus.connected)
            await scenario(bus)

    asyncio.run(whole())


def answer(worker: StandIn, taken: dict[str, Any]) -> None:
    worker.say(taken, ClassifyReply(id=taken["id"]))


async def take(worker: StandIn) -> dict[str, Any]:
    return await asyncio.to_thread(worker.take)


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

    run(bus_url, scenario)


def test_worker_that_withdraws_is_forgotten(bus_url: str, worker: StandIn, other: StandIn) -> None:
    async def scenario(bus: Bus) -> None:
        worker.announce()
        other.announce()
        await until(lambda: bus.live_workers(MODEL) == 2)
        worker.die()
        await until(lambda: bus.live_workers(MODEL) == 1)
        assert bus.live_workers("another model") == 0

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


def test_lost_message_is_sent_again(bus_url: str, worker: StandIn) -> None:
    async def scenario(bus: Bus) -> None:
        with_worker = asyncio.create_task(_keep_announcing(worker))
        await until(lambda: bus.live_workers(MODEL))
        call = calling(bus)
        lost, again = await take(worker), await take(worker)
        assert again == lost
        answer(worker, again)
        assert await call
        with_worker.cancel()

    run(bus_url, scenario)


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
        assert again == taken
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


def test_what_cannot_be_read_harms_nobody(bus_url: str, worker: StandIn) -> None:
    async def scenario(bus: Bus) -> None:
        with redis.Redis.from_url(bus_url) as client:
            client.set(announcement_key("newer"), '{"worker_id": "newer", "speaks": "another language"}')
            for text in ("{", "[]", '{"id": 7}', '{"id": "unknown"}', ""):
                client.publish(bus.reply_channel, text)
        worker.announce()
        await until(lambda: bus.live_workers(MODEL) == 1)
        call = calling(bus)
        answer(worker, await take(worker))
        assert await call

    run(bus_url, scenario)
