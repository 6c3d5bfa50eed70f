import asyncio
import time
from pathlib import Path
from threading import Thread

import pytest
import redis

from app.artifacts import remove_artifacts
from app.classification.bus import Bus
from app.contract.names import MAX_ATTEMPTS, JobStatus, artifact_url, checkpoint_url
from app.jobs.ending import cancel, delete, sweep
from app.jobs.submitting import submit
from app.records.claims import Claim
from app.records.files import ArtifactsUnavailable
from app.records.garbage import FilesLeft
from app.records.store import Records
from tests.app.artifact_files import written
from tests.app.records.steps import (
    batch,
    begun_batch,
    claim,
    claim_batch,
    expire_removals,
    keep_chunk,
    write_results,
)
from tests.app.records.steps import submit as submit_context
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


# -- the files of batches ---------------------------------------------------------------------------------------------


def files(root: str) -> list[Path]:
    """The files of batches."""
    return list(Path(root.removeprefix("file://")).rglob("*.jsonl"))


def files_left(outcome: JobStatus | FilesLeft | None) -> FilesLeft:
    assert isinstance(outcome, FilesLeft)
    return outcome


def test_repeated_change_settles_no_file_that_was_not_removed(records: Records, root: str) -> None:
    job_id, jobs = batch(records, root, 250), records.of("default").jobs
    first = files_left(jobs.delete(job_id))
    gone = remove_artifacts(root, first)
    assert 0 < len(gone) < 250
    second, again = (files_left(jobs.delete(job_id, first, gone)) for _ in range(2))
    assert again.addresses == second.addresses != ()
    assert jobs.delete(job_id, again, remove_artifacts(root, again)) is None
    assert files(root) == []


def test_who_deletes_a_batch_waits_for_another_that_does(records: Records, client: redis.Redis, root: str) -> None:
    job_id, jobs = batch(records, root, 250), records.of("default").jobs
    first = files_left(jobs.delete(job_id))
    assert files_left(jobs.delete(job_id)).addresses == ()
    other = Thread(target=delete, args=(records.of("default"), root, job_id))
    other.start()
    jobs.delete(job_id, first, remove_artifacts(root, first))
    assert other.is_alive()
    expire_removals(client)  # the first died
    other.join(30)
    assert files(root) == []
    assert client.exists("{ct}:collecting", "{ct}:collectors", "{ct}:removing") == 0


def test_batch_whose_files_could_not_be_removed_is_deleted_again_at_once(
    records: Records, client: redis.Redis, root: str
) -> None:
    job_id = batch(records, root, 2)
    with pytest.raises(ArtifactsUnavailable):
        delete(records.of("default"), "unheard-of://bucket", job_id)
    assert client.exists("{ct}:collecting") == 0
    assert len(files(root)) == 3
    assert delete(records.of("default"), root, job_id) is None
    assert files(root) == []


def test_file_that_somebody_writes_again_stays(records: Records, client: redis.Redis, root: str) -> None:
    job_id, jobs = batch(records, root, 1), records.of("default").jobs
    slow = files_left(jobs.delete(job_id))
    expire_removals(client)
    submit_context(records)
    claimed = claim(records)
    for address in slow.addresses:
        assert records.begin_write(claimed, address) == "go"
    assert delete(records.of("default"), root, job_id) is None
    assert len(files(root)) == 2


def test_remover_removes_nothing_once_others_may(root: str) -> None:
    file = written(artifact_url(root, "address"))
    assert remove_artifacts(root, FilesLeft("remover", time.monotonic(), 0, ("address",))) == ()
    assert file.exists()


@pytest.mark.parametrize("again", [(0,), (0, 1), (2,), ()], ids=str)
def test_files_of_an_attempt_that_died_go_with_their_batch(
    records: Records, client: redis.Redis, root: str, again: tuple[int, ...]
) -> None:
    died = begun_batch(records, 2)
    for number in range(2):
        write_results(records, root, died, number)
    overdue(client, died.job_id)
    records.sweep()
    claimed = claim_batch(records)
    for place, number in enumerate(again):
        keep_chunk(records, claimed, place, write_results(records, root, claimed, number))
    records.of("default").jobs.cancel(died.job_id)
    assert records.finish_cancelled(claimed) == "cancelled"
    assert delete(records.of("default"), root, died.job_id) is None
    assert files(root) == []
    assert client.exists("{ct}:pending", "{ct}:collecting", "{ct}:removing") == 0
