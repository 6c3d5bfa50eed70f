"""What a store must be before it is used, and what a full one still does."""

from collections.abc import Iterator

import pytest
import redis

from app.records.connection import StoreRefused, StoreUnavailable, connect
from app.records.limits import Retention
from app.records.requirements import refusal, take_up
from app.records.store import JobRef, Records
from app.standalone.embedded import EmbeddedServer
from tests.app.records.steps import FAILURE, REPORT, claim, submit
from tests.submissions import overdue, submission


@pytest.fixture
def own(own_store: EmbeddedServer) -> Iterator[redis.Redis]:
    client = connect(own_store.url)
    yield client
    client.close()


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("maxmemory-policy", "allkeys-lru", "may evict records (maxmemory-policy allkeys-lru)"),
        ("maxmemory-policy", "volatile-ttl", "may evict records (maxmemory-policy volatile-ttl)"),
        ("appendonly", "no", "in memory alone (appendonly no)"),
    ],
)
@pytest.mark.parametrize("denied", [False, True])
def test_store_that_may_lose_records_is_refused_by_name(
    own: redis.Redis, own_store: EmbeddedServer, setting: str, value: str, said: str, denied: bool
) -> None:
    own.config_set(setting, value)
    url = own_store.url
    if denied:  # as managed servers do; INFO decides
        own.acl_setuser("limited", enabled=True, passwords=["+secret"], keys="*", channels="*", categories=["+@all"],
                        commands=["-config"])  # fmt: skip
        url = url.replace("unix://", "unix://limited:secret@")
    assert said in (refusal(url) or "")
    if not denied:
        with pytest.raises(StoreRefused, match="the store"):
            Records(own).of("default").contexts.submit(submission())
        assert own.dbsize() == 0


def test_store_without_faults_is_taken_up_also_where_little_can_be_read(
    own: redis.Redis, own_store: EmbeddedServer
) -> None:
    own.acl_setuser("limited", enabled=True, passwords=["+secret"], keys="*", channels="*", categories=["+@all"],
                    commands=["-config"])  # fmt: skip
    assert refusal(own_store.url.replace("unix://", "unix://limited:secret@")) is None
    assert own.hgetall("{ct}:format") == {"format": "1", "min_reader": "1"}


def test_store_that_does_not_answer_is_not_refused(own_store: EmbeddedServer) -> None:
    own_store.stop()
    assert refusal(own_store.url) is None


def test_data_of_0_1_are_refused_with_the_folder_to_move_away(own: redis.Redis, own_store: EmbeddedServer) -> None:
    own.zadd("ct:jobs", {"job_1": 1})
    assert f"move the folder {own.config_get('dir')['dir']} away" in (refusal(own_store.url) or "")


def test_store_of_a_newer_release_is_used_until_that_release_says_otherwise(
    own: redis.Redis, own_store: EmbeddedServer
) -> None:
    own.hset("{ct}:format", mapping={"format": 2, "min_reader": 1})
    assert refusal(own_store.url) is None
    assert own.hget("{ct}:format", "format") == "2"
    own.hset("{ct}:format", "min_reader", 2)
    assert "newer release" in (refusal(own_store.url) or "")


def test_full_store_takes_nothing_new_and_frees_itself(own: redis.Redis) -> None:
    records = Records(own, retention=Retention(jobs=-1))
    tenant = records.of("default")
    ended_id, _ = submit(records)
    records.finish_succeeded(claim(records), "address", REPORT, {})
    for _ in range(5):
        submit(records)
    lost = claim(records)
    overdue(own, lost.job_id)
    own.config_set("maxmemory", 1)
    with pytest.raises(StoreUnavailable):
        submit(records)
    claims = [claim(records) for _ in range(4)]
    for one in claims:
        assert records.beat(one, {"step": 1}, 1.0, {"loss": 0.5}) == "held"
    assert records.message(claims[0], "still here") == "held"
    assert records.finish_succeeded(claims[0], "address", REPORT, {}) == "succeeded"
    assert records.release(claims[1]) == "released"
    assert records.retry(claims[2], FAILURE) == "released"
    assert records.sweep() == {JobRef("default", lost.job_id): "queued"}
    assert tenant.jobs.cancel(lost.job_id) == "queued"
    assert tenant.contexts.delete(ended_id)
    assert tenant.jobs.delete(claims[0].job_id) is None
    assert records.retire() == 2
    assert len(tenant.jobs.page(10).data) == 3
    own.config_set("maxmemory", 0)
    submit(records)


def test_what_may_lose_records_all_the_same_is_told(own: redis.Redis) -> None:
    assert take_up(own) == []
    own.config_set("appendfsync", "everysec")
    own.config_set("maxmemory", 0)
    assert [doubt.partition(" ")[0] for doubt in take_up(own)] == ["maxmemory", "appendfsync"]
