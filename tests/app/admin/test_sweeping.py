import asyncio
from contextlib import suppress
from pathlib import Path

import redis

from app.admin.sweeping import sweep_forever
from app.contract.names import artifact_url
from app.records.limits import Retention
from app.records.store import Records
from tests.app.artifact_files import written
from tests.app.records.steps import claim, job_of, submit
from tests.submissions import overdue
from tests.waiting import eventually


def test_sweeping_goes_on_after_a_failure(records: Records, client: redis.Redis, tmp_path: Path) -> None:
    async def scenario() -> None:
        submit(records)
        claimed = claim(records)
        client.rename("{ct}:leases", "elsewhere")
        client.set("{ct}:leases", "not what a sweep expects")
        sweeper = asyncio.create_task(sweep_forever(records, f"file://{tmp_path}"))
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(sweeper), 0.5)
        assert not sweeper.done()
        client.rename("elsewhere", "{ct}:leases")
        overdue(client, claimed.job_id)
        await asyncio.to_thread(eventually, lambda: job_of(records, claimed.job_id).status == "queued")
        sweeper.cancel()

    asyncio.run(scenario())


def test_duties_do_not_stop_one_another(client: redis.Redis, tmp_path: Path) -> None:
    """Artifacts that cannot be removed keep no job from being taken from a lost worker."""

    async def scenario() -> None:
        records = Records(client, retention=Retention(unreferenced=-1))
        submit(records)
        claimed = claim(records)
        assert records.begin_write(claimed, "ab" * 32) == "go"
        overdue(client, claimed.job_id)
        sweeper = asyncio.create_task(sweep_forever(records, "unheard-of://bucket"))
        await asyncio.to_thread(eventually, lambda: job_of(records, claimed.job_id).status == "queued")
        await asyncio.to_thread(eventually, lambda: client.zcard("{ct}:collecting") == 1)
        sweeper.cancel()

    asyncio.run(scenario())


def test_file_that_nothing_came_to_refer_to_is_removed(client: redis.Redis, tmp_path: Path) -> None:
    async def scenario() -> None:
        records, root, address = Records(client, retention=Retention(unreferenced=-1)), f"file://{tmp_path}", "ab" * 32
        submit(records)
        assert records.begin_write(claim(records), address) == "go"
        file = written(artifact_url(root, address))
        sweeper = asyncio.create_task(sweep_forever(records, root))
        await asyncio.to_thread(eventually, lambda: not file.exists())
        await asyncio.to_thread(eventually, lambda: client.zcard("{ct}:collecting") == 0)
        sweeper.cancel()

    asyncio.run(scenario())
