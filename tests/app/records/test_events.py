"""Events: each change of a job leaves one, metrics are thinned, and one channel tells which job changed."""

from itertools import pairwise

import pytest
import redis

from app.contract.objects import Event
from app.records.store import Records
from tests.app.records.steps import FAILURE, REPORT, claim, submit
from tests.submissions import overdue


def events(records: Records, job_id: str, after: int = 0) -> list[Event]:
    return records.of("default").jobs.events(job_id, after)


def test_each_change_of_status_is_an_event(records: Records, client: redis.Redis) -> None:
    _, job_id = submit(records)
    claim(records)
    overdue(client, job_id)
    records.sweep()
    claimed = claim(records)
    records.beat(claimed, {"step": 1})
    records.finish_failed(claimed, FAILURE)
    found = events(records, job_id)
    statuses = [event.data["status"] for event in found if event.type == "status"]
    assert statuses == ["queued", "running", "queued", "running", "failed"]
    assert [event.id for event in found] == ["1", "2", "3", "4", "5", "6"]
    assert [(event.level, event.message) for event in found if event.type == "message"] == [
        ("warning", "its worker was lost: the job goes back to the queue")
    ]
    assert (found[-1].level, found[-1].data["error"]["code"]) == ("error", "internal")
    assert [event.created_at for event in found] == sorted(event.created_at for event in found)
    assert events(records, job_id, after=3) == found[3:]
    assert events(records, job_id, after=6) == []


def test_messages_and_metrics_stand_between_the_changes(records: Records) -> None:
    _, job_id = submit(records)
    claimed = claim(records)
    records.beat(claimed, {"step": 1}, metrics={"step": 1, "loss": 0.5})
    assert records.message(claimed, "waits for room on the disk", {"bytes": 3}, "warning") == "held"
    records.finish_succeeded(claimed, "address", REPORT, {})
    found = events(records, job_id)
    assert [event.type for event in found] == ["status", "status", "metrics", "message", "status"]
    assert found[2].data == {"step": 1, "loss": 0.5}
    assert (found[3].level, found[3].message, found[3].data) == ("warning", "waits for room on the disk", {"bytes": 3})


def test_metrics_are_thinned_and_nothing_else_is(records: Records) -> None:
    _, job_id = submit(records)
    claimed = claim(records)
    most = 0
    for step in range(1000):
        records.beat(claimed, metrics={"step": step})
        if step % 100 == 50:
            records.message(claimed, f"step {step}")
        if step % 50 == 0:
            most = max(most, len([event for event in events(records, job_id) if event.type == "metrics"]))
    found = events(records, job_id)
    steps = [event.data["step"] for event in found if event.type == "metrics"]
    assert most <= 200
    assert 100 <= len(steps) <= 200
    assert len({after - before for before, after in pairwise(steps)}) == 1
    assert len([event for event in found if event.type == "message"]) == 10
    ids = [int(event.id) for event in found]
    assert ids == sorted(set(ids))
    assert events(records, job_id, after=ids[5]) == found[6:]


@pytest.mark.parametrize("last", [199, 200, 201, 999])
def test_last_metrics_of_a_job_are_told_however_many_were_before(records: Records, last: int) -> None:
    _, job_id = submit(records)
    claimed = claim(records)
    for step in range(1, last + 1):
        records.beat(claimed, metrics={"step": step})
    records.finish_failed(claimed, FAILURE)
    found = events(records, job_id)
    steps = [event.data["step"] for event in found if event.type == "metrics"]
    assert steps == sorted(set(steps))
    assert steps[-1] == last
    assert len(steps) <= 200
    assert found[-1].data["status"] == "failed"


def test_channel_tells_which_job_changed(records: Records, client: redis.Redis) -> None:
    with client.pubsub(  # type: ignore[no-untyped-call]
        ignore_subscribe_messages=True
    ) as subscriber:
        subscriber.subscribe("{ct}:events")
        subscriber.get_message(timeout=5)
        _, job_id = submit(records)
        message = subscriber.get_message(timeout=5)
    assert message
    assert message["data"] == f"default:{job_id}"
