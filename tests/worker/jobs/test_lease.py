from threading import Event

import pytest
import redis

from app.records.claims import Claim
from app.records.connection import connect
from app.records.store import Records
from app.standalone.embedded import EmbeddedServer
from tests.submissions import MODEL, submission, sweep_up
from tests.waiting import eventually
from worker.jobs.lease import Cancelled, Lease, LeaseLost, Stopping


@pytest.fixture
def claim(records: Records) -> Claim:
    records.of("default").contexts.submit(submission())
    claimed = records.claim([MODEL], "worker-1")
    assert claimed
    return claimed


def raised(lease: Lease) -> type[Exception] | None:
    try:
        lease.check()
    except (Cancelled, LeaseLost, Stopping) as error:
        return type(error)
    return None


def test_lease_is_prolonged_while_it_is_held(records: Records, client: redis.Redis, claim: Claim) -> None:
    first = client.zscore("{ct}:leases", f"default:{claim.job_id}")
    with Lease(records, claim, Event()) as lease:
        eventually(lambda: client.zscore("{ct}:leases", f"default:{claim.job_id}") > first)  # type: ignore[operator]
        assert raised(lease) is None


def test_progress_is_written_with_the_next_beat(records: Records, claim: Claim) -> None:
    with Lease(records, claim, Event()) as lease:
        lease.note({"step": 2, "fraction": 0.6, "trained_tokens": 40}, remaining_seconds=100)
        job = eventually(
            lambda: (job := records.of("default").jobs.get(claim.job_id)) and job.progress.step == 2 and job
        )
        assert job
        assert (job.progress.fraction, job.trained_tokens) == (0.6, 40)
        assert job.estimated_finish_at


def test_metrics_of_a_beat_that_the_store_refused_are_told_by_the_next(own_store: EmbeddedServer) -> None:
    client = connect(own_store.url)
    records = Records(client)
    records.of("default").contexts.submit(submission())
    claim = records.claim([MODEL], "worker-1")
    assert claim
    with Lease(records, claim, Event()) as lease:
        client.replicaof("127.0.0.1", 1)
        lease.note({"step": 1}, remaining_seconds=None, metrics={"step": 1})
        lease.tell()
        client.replicaof("NO", "ONE")
        lease.tell()
        told = [event.data for event in records.of("default").jobs.events(claim.job_id) if event.type == "metrics"]
        assert told == [{"step": 1}]
    client.close()


def test_holder_learns_of_a_cancel(records: Records, claim: Claim) -> None:
    with Lease(records, claim, Event()) as lease:
        records.of("default").jobs.cancel(claim.job_id)
        eventually(lambda: raised(lease) is Cancelled)


def test_holder_learns_that_the_lease_is_lost(records: Records, client: redis.Redis, claim: Claim) -> None:
    with Lease(records, claim, Event()) as lease:
        sweep_up(records, client, claim.job_id)
        eventually(lambda: raised(lease) is LeaseLost)


def test_holder_learns_at_once_that_the_worker_stops(records: Records, claim: Claim) -> None:
    stopping = Event()
    with Lease(records, claim, stopping) as lease:
        stopping.set()
        assert raised(lease) is Stopping


def test_nobody_beats_after_the_end(records: Records, claim: Claim) -> None:
    with Lease(records, claim, Event()) as lease:
        pass
    assert not lease._thread.is_alive()
