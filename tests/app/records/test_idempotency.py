"""Idempotency keys: one request at a time, what it made is kept, and another's death blocks no one."""

import pytest
import redis

from app.records.idempotency import ClaimLost, Earlier, InProgress, KeyClaim
from app.records.store import Records
from tests.app.records.steps import content
from tests.submissions import submission

ROUTE = "POST /contexts"


def begun(records: Records, key: str = "k", tenant: str = "default") -> KeyClaim:
    claim = records.of(tenant).idempotency.begin(key, ROUTE)
    assert isinstance(claim, KeyClaim)
    return claim


def test_what_a_request_made_is_kept_with_what_it_was(records: Records, client: redis.Redis) -> None:
    claim = begun(records)
    assert records.of("default").idempotency.begin("k", ROUTE) == InProgress(ROUTE)
    records.of("default").contexts.submit(submission(), claim.answered("hash", "answer"))
    assert records.of("default").idempotency.begin("k", "POST /batches") == Earlier(ROUTE, "hash", "answer")
    (key,) = [one for one in client.keys("*") if "idempotency" in one]
    assert 86_000 < client.ttl(key) <= 86_400


def test_keys_of_others_are_not_seen(records: Records) -> None:
    begun(records, "k", "a")
    begun(records, "k", "b")
    begun(records, "other", "a")


def test_request_that_made_nothing_leaves_its_key(records: Records) -> None:
    records.of("default").idempotency.give_up(begun(records))
    begun(records)


def test_claim_that_ran_out_goes_to_another_and_creates_nothing(records: Records, client: redis.Redis) -> None:
    keys = records.of("default").idempotency
    first = begun(records)
    assert keys.renew(first)
    client.delete(f"{{ct}}:t:default:idempotency:{first.key}")  # as after 60 s
    second = begun(records)
    before = content(client)
    assert not keys.renew(first)
    keys.give_up(first)
    with pytest.raises(ClaimLost):
        records.of("default").contexts.submit(submission(), first.answered("hash", "answer"))
    with pytest.raises(ClaimLost):
        keys.answer(first.answered("hash", "answer"))
    assert content(client) == before
    keys.answer(second.answered("other", "answer"))
    assert keys.begin("k", ROUTE) == Earlier(ROUTE, "other", "answer")


def test_repeated_submit_of_the_same_ids_is_not_a_lost_claim(records: Records) -> None:
    claim, contexts = begun(records), records.of("default").contexts
    first = contexts.submit(submission(), claim.answered("hash", "answer"), ("ctx_1", "job_1"))
    assert contexts.submit(submission(), claim.answered("hash", "answer"), ("ctx_1", "job_1")) == first


def test_claims_run_out_by_themselves(records: Records, client: redis.Redis) -> None:
    claim = begun(records)
    assert 50 < client.ttl(f"{{ct}}:t:default:idempotency:{claim.key}") <= 60
