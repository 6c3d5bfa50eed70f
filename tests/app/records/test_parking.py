"""Long jobs let shorter ones by."""

from dataclasses import replace
from pathlib import Path

import redis

from app.contract.names import JobStatus
from app.records.backups import Backups
from app.records.claims import Claim
from app.records.connection import connect
from app.records.limits import QueueLimits
from app.records.lists import JobFilter
from app.records.store import Records
from app.standalone.embedded import EmbeddedServer
from tests.app.records.steps import claim, content, job_of
from tests.submissions import MODEL, submission


def submit(records: Records, seconds: float, tenant: str = "default", model: str = MODEL) -> str:
    given = submission(model=model)
    plan = given.plan.model_copy(update={"estimated_seconds": seconds})
    return records.of(tenant).contexts.submit(replace(given, plan=plan))[1].id


def long_ago(client: redis.Redis, tenant: str, job_id: str) -> None:
    """As if a job had been claimed and queued a minute before."""
    key = f"{{ct}}:t:{tenant}:job:{job_id}"
    for field in ("claimed_at", "queued_at"):
        if client.hget(key, field):
            client.hincrby(key, field, -60_000)


def parked(records: Records, client: redis.Redis, short_tenant: str = "default") -> tuple[Claim, str]:
    """A long job that was set aside, and the short one that it lets by."""
    long = submit(records, 1000)
    claimed = claim(records)
    short = submit(records, 10, short_tenant)
    long_ago(client, "default", long)
    long_ago(client, short_tenant, short)
    assert records.park(claimed, 900) == "parked"
    return claimed, short


def test_short_job_is_let_by_and_the_long_one_goes_on(records: Records, client: redis.Redis) -> None:
    long, short = parked(records, client)
    job = job_of(records, long.job_id)
    assert (job.status, job.attempt) == ("running", 1)
    assert records.beat(long) == records.park(long, 900) == "lost"
    assert claim(records).job_id == short
    again = claim(records)
    assert (again.job_id, again.attempt, again.fence) == (long.job_id, 1, 2)
    assert [event.data["status"] for event in records.of("default").jobs.events(long.job_id)] == ["queued", "running"]


def test_job_is_not_set_aside_too_soon_or_for_nothing(records: Records, client: redis.Redis) -> None:
    long = submit(records, 1000)
    claimed = claim(records)
    short = submit(records, 10)
    assert records.park(claimed, 900) == "held"  # held for a moment only
    long_ago(client, "default", long)
    assert records.park(claimed, 900) == "held"  # an idle worker may still take the short one
    long_ago(client, "default", short)
    assert records.park(claimed, 15) == "held"  # nearly done itself
    assert records.park(claimed, 900) == "parked"


def test_job_of_another_model_is_not_waited_for(records: Records, client: redis.Redis) -> None:
    long, short = submit(records, 1000), submit(records, 10, model="other")
    claimed = claim(records)
    for job_id in (long, short):
        long_ago(client, "default", job_id)
    assert records.park(claimed, 900) == "held"


def test_jobs_of_its_own_tenant_get_every_second_turn(records: Records, client: redis.Redis) -> None:
    long, short = parked(records, client)
    more = [submit(records, 10) for _ in range(2)]
    assert [claim(records).job_id for _ in range(3)] == [short, long.job_id, more[0]]


def test_other_tenants_get_their_turns(records: Records, client: redis.Redis) -> None:
    long, short = parked(records, client, "other")
    more = submit(records, 10, "other")
    assert [claim(records).job_id for _ in range(3)] == [short, long.job_id, more]


def test_short_job_passes_the_long_ones_before_it(records: Records, client: redis.Redis) -> None:
    submit(records, 1000)
    claimed = claim(records)
    submit(records, 1000)
    short = submit(records, 10)
    for job_id in (claimed.job_id, short):
        long_ago(client, "default", job_id)
    assert records.park(claimed, 900) == "parked"
    assert claim(records).job_id == short


def test_parked_job_is_cancelled_at_once(records: Records, client: redis.Redis) -> None:
    long, short = parked(records, client)
    assert records.of("default").jobs.cancel(long.job_id) == "running"
    assert job_of(records, long.job_id).status == "cancelled"
    assert claim(records).job_id == short
    assert records.claim([MODEL], "idle") is None


def test_parked_job_is_neither_swept_nor_counted_as_queued(records: Records, client: redis.Redis) -> None:
    long, _ = parked(records, client)
    assert records.sweep() == {}
    jobs = records.of("default").jobs
    assert [job.id for job in jobs.page(10, None, JobFilter(status=JobStatus.RUNNING)).data] == [long.job_id]
    claim(records)
    submit(Records(client, QueueLimits(all=1, tenant=1)), 1)


def test_requested_cancel_is_told_instead(records: Records, client: redis.Redis) -> None:
    long = submit(records, 1000)
    claimed = claim(records)
    records.of("default").jobs.cancel(long)
    before = content(client)
    assert records.park(claimed, 900) == "cancel"
    assert content(client) == before


def test_parked_job_that_is_restored_goes_on_uncounted(
    records: Records, client: redis.Redis, own_store: EmbeddedServer, tmp_path: Path, store_url: str
) -> None:
    long, short = parked(records, client)
    restoring = Backups.at(own_store.url, to_restore=True)
    restoring.begin_restore()
    restoring.restore(Backups.at(store_url).rows())
    restoring.end_restore()
    there = connect(own_store.url)
    restored = Records(there, artifacts_url=f"file://{tmp_path}/artifacts")
    taken = [claim(restored) for _ in range(2)]
    assert [(one.job_id, one.attempt) for one in taken] == [(long.job_id, 1), (short, 1)]
    there.close()
