"""Waiting for jobs on a real store: woken, not polled."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import redis

from app.events.feed import Feed
from app.events.reads import JobReads
from app.jobs.waiting import JobWaits
from app.records.store import Records
from tests.app.asked import commands, quiet
from tests.app.records.steps import FAILURE, claim, submit
from tests.waiting import eventually


@asynccontextmanager
async def waits_on(store_url: str, **options: float) -> AsyncIterator[JobWaits]:
    feed = Feed(store_url, **options)
    feed.start()
    try:
        yield JobWaits(feed, JobReads(), asyncio.Event())
    finally:
        await feed.stop()


def scenario(store_url: str, test: Callable[[JobWaits], Awaitable[None]], **options: float) -> None:
    async def whole() -> None:
        async with waits_on(store_url, **options) as waits, asyncio.timeout(60):
            await test(waits)

    asyncio.run(whole())


def test_wait_ends_with_the_job(store_url: str, records: Records) -> None:
    async def test(waits: JobWaits) -> None:
        submit(records)
        claimed = claim(records)
        waiting = asyncio.create_task(waits.until_terminal(records.of("default"), claimed.job_id, 50))
        job = await waits.until_terminal(records.of("default"), claimed.job_id, 0.2)
        assert job
        assert job.status == "running"
        assert not waiting.done()
        records.finish_failed(claimed, FAILURE)
        ended = await waiting
        assert ended
        assert ended.status == "failed"

    scenario(store_url, test)


def test_waits_are_woken_and_do_not_ask_again_and_again(store_url: str, records: Records, client: redis.Redis) -> None:
    async def test(waits: JobWaits) -> None:
        _, job_id = submit(records)
        every = [asyncio.create_task(waits.until_terminal(records.of("default"), job_id, 50)) for _ in range(200)]
        await asyncio.to_thread(eventually, lambda: quiet(client))
        before = commands(client)
        await asyncio.sleep(1)
        assert commands(client) - before < 20
        records.of("default").jobs.cancel(job_id)
        assert {job.status for job in await asyncio.gather(*every) if job} == {"cancelled"}

    scenario(store_url, test)


def test_many_who_begin_and_end_their_wait_at_once_ask_once(
    store_url: str, records: Records, client: redis.Redis
) -> None:
    async def test(waits: JobWaits) -> None:
        _, job_id = submit(records)
        before = commands(client)
        found = await asyncio.gather(*(waits.until_terminal(records.of("default"), job_id, 0.5) for _ in range(500)))
        assert {job.status for job in found if job} == {"queued"}
        assert commands(client) - before < 100

    scenario(store_url, test)


def test_wait_that_begins_after_the_end_of_the_job_sees_it_whatever_others_know(
    store_url: str, records: Records, client: redis.Redis
) -> None:
    async def test(waits: JobWaits) -> None:
        _, job_id = submit(records)
        waiting = asyncio.create_task(waits.until_terminal(records.of("default"), job_id, 50))
        await asyncio.to_thread(eventually, lambda: quiet(client))
        await waits.feed.stop()  # nothing is told any more
        records.of("default").jobs.cancel(job_id)
        job = await waits.until_terminal(records.of("default"), job_id, 50)
        assert job
        assert job.status == "cancelled"
        waiting.cancel()

    scenario(store_url, test, look_seconds=3600)


def test_wait_for_an_unknown_job_ends_at_once(store_url: str, records: Records) -> None:
    async def test(waits: JobWaits) -> None:
        assert await waits.until_terminal(records.of("default"), "job_unknown", 50) is None

    scenario(store_url, test)


def test_wait_for_a_job_that_is_deleted_ends(store_url: str, records: Records) -> None:
    async def test(waits: JobWaits) -> None:
        _, job_id = submit(records)
        waiting = asyncio.create_task(waits.until_terminal(records.of("default"), job_id, 50))
        await asyncio.sleep(0.2)
        records.of("default").jobs.cancel(job_id)
        records.of("default").jobs.delete(job_id)
        job = await waiting
        assert job is None or job.status == "cancelled"

    scenario(store_url, test, look_seconds=0.1)


def test_waits_end_when_the_gateway_stops(store_url: str, records: Records) -> None:
    async def test(waits: JobWaits) -> None:
        _, job_id = submit(records)
        waiting = asyncio.create_task(waits.until_terminal(records.of("default"), job_id, 3600))
        await asyncio.sleep(0.1)
        waits.stopping.set()
        job = await waiting
        assert job
        assert job.status == "queued"

    scenario(store_url, test)


def test_nothing_is_watched_once_nobody_waits(store_url: str, records: Records) -> None:
    async def test(waits: JobWaits) -> None:
        _, job_id = submit(records)
        waiting = [asyncio.create_task(waits.until_terminal(records.of("default"), job_id, 50)) for _ in range(3)]
        await asyncio.sleep(0.2)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert waits.watched == 0

    scenario(store_url, test)


def test_what_happened_while_the_feed_was_cut_off_is_seen(
    store_url: str, records: Records, client: redis.Redis
) -> None:
    async def test(waits: JobWaits) -> None:
        _, job_id = submit(records)
        waiting = asyncio.create_task(waits.until_terminal(records.of("default"), job_id, 50))
        await asyncio.sleep(0.3)
        client.client_kill_filter(_type="pubsub")
        records.of("default").jobs.cancel(job_id)
        job = await waiting
        assert job
        assert job.status == "cancelled"

    scenario(store_url, test)
