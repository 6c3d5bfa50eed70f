import asyncio
from pathlib import Path

import pytest
import redis

from app.classification.bus import Bus
from app.contexts import contexts
from app.contract.names import MAX_ATTEMPTS, ErrorCode, checkpoint_url
from app.contract.objects import JobError, Report
from app.errors import DomainError
from app.jobs import jobs
from app.records.store import Claim, Records
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


# -- submit and wait --------------------------------------------------------------------------------------------------


def test_job_is_submitted_although_no_worker_can_be_woken(records: Records, tmp_path: Path) -> None:
    async def scenario() -> None:
        bus = Bus(f"unix://{tmp_path}/none")
        _, job = await jobs.submit(records.of("default"), bus, submission())
        await bus.stop()
        assert records.of("default").jobs.get(job.id) == job

    asyncio.run(scenario())


def test_waiting_ends_with_the_job(records: Records) -> None:
    async def scenario() -> None:
        claim = running(records)
        waiting = asyncio.create_task(
            jobs.wait_until_terminal(records.of("default"), claim.job_id, 30, asyncio.Event())
        )
        job = await jobs.wait_until_terminal(records.of("default"), claim.job_id, 0, asyncio.Event())
        assert job
        assert job.status == "running"
        records.finish_failed(claim, JobError(code=ErrorCode.INTERNAL, message="it broke"))
        ended = await waiting
        assert ended
        assert ended.status == "failed"

    asyncio.run(scenario())


def test_waiting_for_an_unknown_job_ends_at_once(records: Records) -> None:
    assert asyncio.run(jobs.wait_until_terminal(records.of("default"), "job_unknown", 30, asyncio.Event())) is None


def test_waiting_ends_when_the_gateway_stops(records: Records) -> None:
    async def scenario() -> None:
        claim, stopping = running(records), asyncio.Event()
        waiting = asyncio.create_task(jobs.wait_until_terminal(records.of("default"), claim.job_id, 3600, stopping))
        stopping.set()
        job = await asyncio.wait_for(waiting, 60)
        assert job
        assert job.status == "running"

    asyncio.run(scenario())


# -- sweep and clear up -----------------------------------------------------------------------------------------------


def test_checkpoint_stays_while_the_job_may_go_on(records: Records, client: redis.Redis, root: str) -> None:
    claim = running(records)
    checkpoint = written(checkpoint_url(root, claim.job_id))
    overdue(client, claim.job_id)
    jobs.sweep(records, root)
    assert checkpoint.exists()


def test_checkpoint_goes_with_a_job_that_has_lost_too_many_workers(
    records: Records, client: redis.Redis, root: str
) -> None:
    claim = running(records)
    checkpoint = written(checkpoint_url(root, claim.job_id))
    for _ in range(MAX_ATTEMPTS):
        overdue(client, claim.job_id)
        jobs.sweep(records, root)
        records.claim([MODEL], "worker-1")
    assert not checkpoint.exists()


def test_checkpoint_goes_with_a_queued_job_that_is_cancelled(records: Records, root: str) -> None:
    claim = running(records)
    checkpoint = written(checkpoint_url(root, claim.job_id))
    records.release(claim)
    assert jobs.cancel(records.of("default"), root, claim.job_id) == "queued"
    assert not checkpoint.exists()
    assert jobs.cancel(records.of("default"), root, "job_unknown") is None


# -- contexts that can answer -----------------------------------------------------------------------------------------


def test_only_a_context_whose_job_has_succeeded_can_answer(records: Records) -> None:
    claim = running(records)
    with pytest.raises(DomainError) as caught:
        contexts.find_ready(records.of("default"), "intents")
    assert (caught.value.code, caught.value.param) == ("context_not_ready", "/context")
    assert claim.job_id in caught.value.detail
    records.finish_succeeded(claim, "address", Report(served="tuned"), {})
    stored, artifact = contexts.find_ready(records.of("default"), "intents@1")
    assert (stored.context.id, artifact) == (claim.context_id, "address")
    with pytest.raises(DomainError) as caught:
        contexts.find_ready(records.of("default"), "intents@2")
    assert caught.value.code == "context_not_found"
