"""The audit log and the usage of a tenant, in a real store."""

from pathlib import Path

import redis

from app.contract.access import ALL_SCOPES, KeyLimits
from app.records.connection import connect
from app.records.limits import Retention
from app.records.store import Records
from tests.app.lossy import lossy
from tests.waiting import eventually


def test_audit_entries_are_listed_newest_first(records: Records) -> None:
    key = records.access.create_key("key_1", "hash", "acme", "laptop", ALL_SCOPES, KeyLimits(), None)
    log = records.of("acme").audit
    for number in range(5):
        log.append(key, "context.delete", f"ctx_{number}", "refused", 409, f"req_{number}")
    first = log.page(3)
    rest = log.page(3, first.next)
    assert [entry.object_id for entry in (*first.data, *rest.data)] == [f"ctx_{n}" for n in (4, 3, 2, 1, 0)]
    assert rest.next is None
    entry = first.data[0]
    assert (entry.key_id, entry.key_name, entry.action) == ("key_1", "laptop", "context.delete")
    assert (entry.outcome, entry.status, entry.request_id) == ("refused", 409, "req_4")
    assert records.of("other").audit.page(3).data == ()


def test_an_entry_without_a_key_or_a_request(records: Records) -> None:
    records.of("acme").audit.append(None, "key.create", "key_1")
    (entry,) = records.of("acme").audit.page(3).data
    assert (entry.key_id, entry.status, entry.request_id, entry.outcome) == (None, None, None, "succeeded")


def test_audit_entries_end(client: redis.Redis) -> None:
    log = Records(client, retention=Retention(audit=0.05)).of("acme").audit
    log.append(None, "key.create", "key_1")
    assert len(log.page(3).data) == 1
    eventually(lambda: log.page(3).data == ())
    assert client.exists("{ct}:t:acme:audit") == 0
    kept = Records(client).of("acme").audit
    kept.append(None, "key.create", "key_2")
    assert 364 * 24 * 3600 < client.ttl("{ct}:t:acme:audit") <= 365 * 24 * 3600


def test_an_answer_that_was_lost_counts_and_notes_nothing_twice(
    records: Records, store_url: str, tmp_path: Path
) -> None:
    acme = records.of("acme")
    with lossy(tmp_path, store_url) as way:
        client = connect(way.url)
        by_way = Records(client).of("acme")
        by_way.usage.add({"requests": 1}, "meter_1", 1)
        by_way.audit.append(None, "key.create", "key_1")
        way.lose(b"acme", 1)
        by_way.usage.add({"requests": 10}, "meter_1", 2)
        assert way.losses == 0
        way.lose(b"acme", 1)
        by_way.audit.append(None, "key.create", "key_2")
        assert way.losses == 0
        client.close()
    acme.usage.add({"requests": 100}, "meter_2", 1)
    acme.usage.add({"requests": 10}, "meter_1", 2)
    acme.usage.add({"requests": 1000}, "meter_1", 3)
    assert [day.requests for day in acme.usage.days()] == [1111]
    assert [entry.object_id for entry in acme.audit.page(10).data] == ["key_2", "key_1"]


def test_usage_is_added_up_by_day(records: Records, client: redis.Redis) -> None:
    usage = records.of("acme").usage
    assert usage.days() == ()
    usage.add({"requests": 1, "inputs": 3, "input_tokens": 30, "context_tokens": 100}, "meter_1", 1)
    usage.add({"requests": 1, "inputs": 2, "input_tokens": 20, "context_tokens": 100}, "meter_1", 2)
    (day,) = usage.days()
    assert (day.requests, day.inputs, day.input_tokens, day.context_tokens) == (2, 5, 50, 200)
    assert day.date.toordinal() - 719163 == client.time()[0] // 86400  # by the store's clock
    assert records.of("other").usage.days() == ()


def test_days_are_newest_first_and_end(records: Records, client: redis.Redis) -> None:
    usage = records.of("acme").usage
    usage.add({"requests": 1}, "meter_1", 1)
    today = client.time()[0] // 86400
    for ago in (1, 399, 401):
        client.hset(f"{{ct}}:t:acme:usage:{today - ago}", "requests", ago)
        client.zadd("{ct}:t:acme:usages", {str(today - ago): today - ago})
    usage.add({"requests": 1}, "meter_1", 2)
    assert [day.requests for day in usage.days()] == [2, 1, 399]
    assert 399 * 24 * 3600 < client.ttl(f"{{ct}}:t:acme:usage:{today}") <= 400 * 24 * 3600
