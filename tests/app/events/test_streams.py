"""Streams of events on a real store: nothing is missed, nothing comes twice, and each event is read once."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import redis

from app.contract.objects import Event
from app.events.feed import Feed
from app.events.reads import JobReads
from app.events.streams import EventStreams
from app.records.connection import connect
from app.records.store import Records, TenantRecords
from tests.app.asked import commands, quiet
from tests.app.records.steps import FAILURE, claim, submit
from tests.waiting import eventually


def scenario(store_url: str, test: Callable[[EventStreams], Awaitable[None]], heartbeat: float = 15) -> None:
    async def whole() -> None:
        feed = Feed(store_url)
        feed.start()
        try:
            async with asyncio.timeout(60):
                await test(EventStreams(feed, JobReads(), asyncio.Event(), heartbeat))
        finally:
            await feed.stop()

    asyncio.run(whole())


async def collect(streams: EventStreams, records: TenantRecords, job_id: str, after: int = 0) -> list[Event]:
    return [event async for event in streams.read(records, job_id, after) if event is not None]


def statuses(events: list[Event]) -> list[str]:
    return [event.data["status"] for event in events if event.type == "status"]


def test_stream_tells_what_was_and_what_happens_and_ends_with_the_job(store_url: str, records: Records) -> None:
    async def test(streams: EventStreams) -> None:
        submit(records)
        claimed = claim(records)
        reading = asyncio.create_task(collect(streams, records.of("default"), claimed.job_id))
        records.message(claimed, "resumed", level="warning")
        await asyncio.sleep(0.2)
        records.finish_failed(claimed, FAILURE)
        events = await reading
        assert statuses(events) == ["queued", "running", "failed"]
        assert [event.message for event in events if event.type == "message"] == ["resumed"]
        assert [int(event.id) for event in events] == list(range(1, len(events) + 1))
        assert streams.watched == 0

    scenario(store_url, test)


def test_reader_that_comes_back_sees_the_rest_once(store_url: str, records: Records) -> None:
    async def test(streams: EventStreams) -> None:
        submit(records)
        claimed = claim(records)
        stream = streams.read(records.of("default"), claimed.job_id, 0)
        first = await anext(stream)
        assert first
        await stream.aclose()  # type: ignore[attr-defined]  # an asynchronous generator
        records.finish_failed(claimed, FAILURE)
        rest = await collect(streams, records.of("default"), claimed.job_id, int(first.id))
        assert statuses([first, *rest]) == ["queued", "running", "failed"]
        assert await collect(streams, records.of("default"), claimed.job_id, int(rest[-1].id)) == []

    scenario(store_url, test)


def test_reader_that_comes_while_the_store_is_away_misses_nothing_that_others_have_seen(
    store_url: str, records: Records, tmp_path: Path
) -> None:
    async def test(streams: EventStreams) -> None:
        submit(records)
        claimed = claim(records)
        first = streams.read(records.of("default"), claimed.job_id, 0)
        assert [event.id for event in [await anext(first), await anext(first)] if event] == ["1", "2"]
        records.message(claimed, "resumed", level="warning")
        while (event := await anext(first)) is None or event.id != "3":
            pass
        socket = tmp_path / "store"
        late = Records(connect(f"unix://{socket}"))
        reading = asyncio.create_task(collect(streams, late.of("default"), claimed.job_id, 1))
        await asyncio.sleep(0.5)
        socket.symlink_to(store_url.removeprefix("unix://"))
        records.finish_failed(claimed, FAILURE)
        assert [event.id for event in await reading] == ["2", "3", "4"]
        await first.aclose()  # type: ignore[attr-defined]  # an asynchronous generator

    scenario(store_url, test)


def test_readers_of_a_job_cost_one_look_for_each_event(store_url: str, records: Records, client: redis.Redis) -> None:
    async def test(streams: EventStreams) -> None:
        submit(records)
        claimed = claim(records)
        tenant = records.of("default")
        readers = [asyncio.create_task(collect(streams, tenant, claimed.job_id)) for _ in range(1000)]
        await asyncio.to_thread(eventually, lambda: client.pubsub_numsub("{ct}:events") == [("{ct}:events", 1)])
        await asyncio.to_thread(eventually, lambda: quiet(client))
        before, connections = commands(client), int(client.info("clients")["connected_clients"])
        for number in range(20):
            records.message(claimed, str(number), level="info")
        records.finish_failed(claimed, FAILURE)
        found = await asyncio.gather(*readers)
        assert {len(events) for events in found} == {23}
        assert commands(client) - before < 300
        assert connections < 100

    scenario(store_url, test)


def test_slow_reader_is_closed_and_others_go_on(store_url: str, records: Records) -> None:
    async def test(streams: EventStreams) -> None:
        submit(records)
        claimed = claim(records)
        tenant = records.of("default")
        streams.max_behind = 5
        slow = streams.read(tenant, claimed.job_id, 0)
        seen = [await anext(slow) for _ in range(2)]
        streams.max_behind = 100
        quick = asyncio.create_task(collect(streams, tenant, claimed.job_id))
        for number in range(20):
            records.message(claimed, str(number), level="info")
        await asyncio.sleep(0.5)
        records.finish_failed(claimed, FAILURE)
        assert len(await quick) == 23
        seen += [event async for event in slow]
        last = max(int(event.id) for event in seen if event)
        assert last < 23
        assert [int(event.id) for event in await collect(streams, tenant, claimed.job_id, last)] == [
            *range(last + 1, 24)
        ]

    scenario(store_url, test)


def test_reader_of_more_events_than_it_may_be_behind_stays_while_the_job_runs(store_url: str, records: Records) -> None:
    async def test(streams: EventStreams) -> None:
        submit(records)
        claimed = claim(records)
        for number in range(20):
            records.message(claimed, str(number), level="info")
        streams.max_behind = 5
        reading = asyncio.create_task(collect(streams, records.of("default"), claimed.job_id))
        await asyncio.sleep(0.5)
        assert not reading.done()
        records.finish_failed(claimed, FAILURE)
        assert [int(event.id) for event in await reading] == list(range(1, 24))

    scenario(store_url, test)


def test_reader_that_leaves_leaves_nothing_that_waits(store_url: str, records: Records) -> None:
    async def test(streams: EventStreams) -> None:
        submit(records)
        claimed = claim(records)
        before = asyncio.all_tasks()
        reading = asyncio.create_task(collect(streams, records.of("default"), claimed.job_id))
        await asyncio.sleep(0.5)
        reading.cancel()
        await asyncio.wait({reading})
        await asyncio.sleep(0.1)
        assert asyncio.all_tasks() == before

    scenario(store_url, test)


def test_stream_ends_where_an_event_cannot_be_read(store_url: str, records: Records, client: redis.Redis) -> None:
    async def test(streams: EventStreams) -> None:
        submit(records)
        claimed = claim(records)
        tenant = records.of("default")
        stream = streams.read(tenant, claimed.job_id, 0)
        assert [event.id for event in [await anext(stream), await anext(stream)] if event] == ["1", "2"]
        client.rpush(f"{{ct}}:t:default:events:{claimed.job_id}", '[3, "of a newer release"]')
        client.publish("{ct}:events", f"default:{claimed.job_id}")
        assert [event async for event in stream if event] == []

    scenario(store_url, test)


def test_stream_of_a_deleted_job_ends(store_url: str, records: Records) -> None:
    async def test(streams: EventStreams) -> None:
        _, job_id = submit(records)
        tenant = records.of("default")
        tenant.jobs.cancel(job_id)
        tenant.jobs.delete(job_id)
        assert await collect(streams, tenant, job_id, 1) == []

    scenario(store_url, test)


def test_silent_stream_shows_that_it_lives_and_ends_when_the_gateway_stops(store_url: str, records: Records) -> None:
    async def test(streams: EventStreams) -> None:
        _, job_id = submit(records)
        stream = streams.read(records.of("default"), job_id, 1)
        assert await anext(stream) is None
        streams.stopping.set()
        assert [event async for event in stream if event] == []

    scenario(store_url, test, heartbeat=0.05)
