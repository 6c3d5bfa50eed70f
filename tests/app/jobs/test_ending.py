import asyncio
from pathlib import Path

import pytest
import redis

from app.classification.bus import Bus
from app.contract.names import MAX_ATTEMPTS, checkpoint_url
from app.jobs.ending import cancel, sweep
from app.jobs.submitting import submit
from app.records.claims import Claim
from app.records.store import Records
from tests.app.artifact_files import written
from tests.submissions import MODEL, overdue, submission


@pytest.fixture
def root(tmp_path: Path) -> str:
    return f"file://{tmp_path}/artifacts"


def running(records: Records) -> Claim:
    records.of("default").contexts.submit(submission("intents"))
    claim = records.claim([MODEL], "worker-1")
    assert claim
    return claim


# -- sweep and clear up -----------------------------------------------------------------------------------------------


def test_checkpoint_stays_while_the_job_may_go_on(records: Records, client: redis.Redis, root: str) -> None:
    claim = running(records)
    checkpoint = written(checkpoint_url(root, claim.job_id))
    overdue(client, claim.job_id)
    sweep(records, root)
    assert checkpoint.exists()


def test_checkpoint_goes_with_a_job_that_has_lost_too_many_workers(
    records: Records, client: redis.Redis, root: str
) -> None:
    claim = running(records)
    checkpoint = written(checkpoint_url(root, claim.job_id))
    for _ in range(MAX_ATTEMPTS):
        overdue(client, claim.job_id)
        sweep(records, root)
        records.claim([MODEL], "worker-1")
    assert not checkpoint.exists()


def test_checkpoint_goes_with_a_queued_job_that_is_cancelled(records: Records, root: str) -> None:
    claim = running(records)
    checkpoint = written(checkpoint_url(root, claim.job_id))
    records.release(claim)
    assert cancel(records.of("default"), root, claim.job_id) == "queued"
    assert not checkpoint.exists()
    assert cancel(records.of("default"), root, "job_unknown") is None


def test_job_is_submitted_although_no_worker_can_be_woken(records: Records, tmp_path: Path) -> None:
    async def scenario() -> None:
        bus = Bus(f"unix://{tmp_path}/none")
        _, job = await submit(records.of("default"), bus, submission())
        await bus.stop()
        assert records.of("default").jobs.get(job.id) == job

    asyncio.run(scenario())
