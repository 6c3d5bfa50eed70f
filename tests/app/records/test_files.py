"""Which files are wanted: those that a row refers to or that somebody writes."""

import redis

from app.records.limits import Retention
from app.records.store import Records
from tests.app.records.steps import REPORT, claim, expire_removals, submit
from tests.submissions import overdue

ADDRESS = "ab" * 32


def test_file_that_was_written_in_vain_is_removed_by_its_writer(records: Records, client: redis.Redis) -> None:
    submit(records)
    claimed = claim(records)
    assert records.begin_write(claimed, ADDRESS) == "go"
    assert records.end_write(claimed, ADDRESS)
    assert client.exists(f"{{ct}}:writers:{ADDRESS}", "{ct}:pending") == 0
    records.removed(claimed, ADDRESS)
    assert client.exists("{ct}:collecting", "{ct}:collectors") == 0


def test_file_is_kept_while_another_writes_it_or_refers_to_it(records: Records, client: redis.Redis) -> None:
    _, job_id = submit(records)
    lost = claim(records)
    assert records.begin_write(lost, ADDRESS) == "go"
    overdue(client, job_id)
    records.sweep()
    again = claim(records)
    assert records.begin_write(again, ADDRESS) == "go"
    assert not records.end_write(lost, ADDRESS)
    assert not records.let_go(lost)
    records.finish_succeeded(again, ADDRESS, REPORT, {})
    assert not records.end_write(lost, ADDRESS)
    assert records.let_go(lost)
    assert records.garbage.files() == {}


def test_writer_waits_while_the_same_file_is_being_removed(records: Records, client: redis.Redis) -> None:
    submit(records)
    submit(records)
    first, second = claim(records), claim(records)
    records.begin_write(first, ADDRESS)
    assert records.end_write(first, ADDRESS)
    assert records.begin_write(second, ADDRESS) == "wait"
    records.removed(first, ADDRESS)
    assert records.begin_write(second, ADDRESS) == "go"
    assert records.end_write(second, ADDRESS)
    client.zadd("{ct}:collecting", {ADDRESS: 1})  # the remover died, and its lease is over
    assert records.begin_write(second, ADDRESS) == "go"
    assert records.garbage.files() == {}


def test_late_writer_removes_its_file_also_while_another_removes_it(records: Records, client: redis.Redis) -> None:
    (context_id, job_id), _ = submit(records), submit(records)
    late = claim(records)
    assert records.begin_write(late, ADDRESS) == "go"
    overdue(client, job_id)
    records.sweep()
    contexts = records.of("default").contexts
    deletion = contexts.delete(context_id)
    assert deletion is not None
    assert ADDRESS in deletion.files.addresses
    assert records.end_write(late, ADDRESS)
    other = claim(records)
    records.removed(late, ADDRESS)
    assert records.begin_write(other, ADDRESS) == "wait"  # for the one that deletes the context
    assert contexts.deleted(context_id, deletion.files, deletion.files.addresses)
    assert records.begin_write(other, ADDRESS) == "wait"
    expire_removals(client)
    assert records.garbage.files() == {ADDRESS: True}


def test_who_lost_the_job_does_not_begin_to_write(records: Records, client: redis.Redis) -> None:
    _, job_id = submit(records)
    lost = claim(records)
    overdue(client, job_id)
    records.sweep()
    assert records.begin_write(lost, ADDRESS) == "lost"


def test_what_a_crash_left_is_found_after_the_grace(records: Records, client: redis.Redis) -> None:
    impatient = Records(client, retention=Retention(unreferenced=-1))
    submit(records)
    records.begin_write(claim(records), ADDRESS)
    assert records.garbage.files() == {}
    assert impatient.garbage.files() == {ADDRESS: True}
    assert impatient.garbage.files() == {}  # until the remover's lease is over
    client.zadd("{ct}:collecting", {ADDRESS: 1})
    assert records.garbage.files() == {ADDRESS: True}
    records.garbage.collected(ADDRESS)
    assert records.garbage.files() == {}


def test_what_a_dead_writer_left_of_a_file_in_use_is_found(records: Records, client: redis.Redis) -> None:
    _, job_id = submit(records)
    records.begin_write(claim(records), ADDRESS)
    overdue(client, job_id)
    records.sweep()
    again = claim(records)
    records.begin_write(again, ADDRESS)
    records.finish_succeeded(again, ADDRESS, REPORT, {})
    assert Records(client, retention=Retention(unreferenced=-1)).garbage.files() == {ADDRESS: False}
