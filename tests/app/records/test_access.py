"""Keys and tenants in a real store."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import redis

from app.contract.access import ALL_SCOPES, Key, KeyLimits, Scope, TenantLimits
from app.contract.names import DEFAULT_TENANT
from app.contract.webhooks import EventType
from app.records.access import Expired, Occasion, TenantDeleting
from app.records.contexts import QuotaReached, TenantGone
from app.records.store import Records
from tests.app.records.steps import REPORT, claim
from tests.submissions import submission


def make(
    records: Records,
    secret_hash: str,
    tenant: str = DEFAULT_TENANT,
    scopes: tuple[Scope, ...] = ALL_SCOPES,
    expires_at: datetime | None = None,
    occasion: Occasion = "asked",
) -> Key | None:
    limits = KeyLimits(requests_per_minute=600)
    return records.access.create_key(
        f"key_{secret_hash}", secret_hash, tenant, "laptop", scopes, limits, expires_at, occasion=occasion
    )


def test_a_key_is_found_by_its_hash_as_it_was_made(records: Records) -> None:
    assert not records.access.find("a").any_made
    made = make(records, "a", "acme", (Scope.READ, Scope.CLASSIFY))
    lookup = records.access.find("a")
    assert lookup.any_made
    assert lookup.found is not None
    assert lookup.found.key == made
    assert (made and made.tenant, made and made.scopes) == ("acme", (Scope.READ, Scope.CLASSIFY))
    assert lookup.found.key.limits == KeyLimits(requests_per_minute=600)
    assert lookup.found.seconds_left is None
    assert records.access.find("b").found is None


def test_making_a_key_again_after_a_lost_answer_makes_one(records: Records) -> None:
    assert make(records, "a") == make(records, "a")
    assert len(records.access.keys(10, None, None).data) == 1


def test_a_key_ends_by_the_stores_clock(records: Records, client: redis.Redis) -> None:
    seconds, _ = client.time()
    now = datetime.fromtimestamp(seconds, UTC)
    with pytest.raises(Expired):
        make(records, "past", expires_at=now)
    assert not records.access.find("past").any_made
    make(records, "a", expires_at=now + timedelta(hours=1))
    found = records.access.find("a").found
    assert found is not None
    assert found.seconds_left == pytest.approx(3600, abs=60)
    client.hset("{ct}:key:a", "expires_at", seconds * 1000 - 1)
    assert records.access.find("a").found is None


def test_a_revoked_key_is_gone_and_only_its_tenants_may_be_revoked(records: Records) -> None:
    made = make(records, "a", "acme")
    assert made is not None
    assert records.access.delete_key(made.id, "other") is None
    assert records.access.find("a").found
    assert records.access.delete_key(made.id, "acme") == "a"
    assert records.access.find("a").found is None
    assert records.access.delete_key(made.id, None) is None
    assert records.access.keys(10, None, None).data == ()
    assert records.access.find("a").any_made  # for good


def test_keys_are_listed_by_tenant_or_all_newest_first(records: Records) -> None:
    for number in range(5):
        make(records, str(number), "acme" if number % 2 else "other")
    first = records.access.keys(3, None, None)
    rest = records.access.keys(3, first.next, None)
    assert [key.id for key in (*first.data, *rest.data)] == [f"key_{n}" for n in (4, 3, 2, 1, 0)]
    assert rest.next is None
    assert [key.id for key in records.access.keys(10, None, "acme").data] == ["key_3", "key_1"]
    assert [tenant.id for tenant in records.access.tenants(10, None).data] == ["acme", "other"]


def test_lists_leave_out_what_has_no_row(records: Records, client: redis.Redis) -> None:
    for number in range(5):
        make(records, str(number), f"tenant-{number}")
    client.delete("{ct}:key:3", "{ct}:tenant:tenant-3")
    first = records.access.keys(2, None, None)
    rest = records.access.keys(2, first.next, None)
    assert [key.id for key in (*first.data, *rest.data)] == [f"key_{n}" for n in (4, 2, 1, 0)]
    assert rest.next is None
    assert records.access.keys(2, None, "tenant-3").data == ()
    assert [tenant.id for tenant in records.access.tenants(10, None).data] == [f"tenant-{n}" for n in (4, 2, 1, 0)]


def test_of_many_first_starts_one_makes_the_key(records: Records) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda n: make(records, str(n), occasion="first"), range(8)))
    assert sum(key is not None for key in made) == 1
    assert len(records.access.keys(10, None, None).data) == 1


def test_no_first_key_is_made_once_there_was_one(records: Records) -> None:
    made = make(records, "a")
    assert made is not None
    records.access.delete_key(made.id, None)
    assert make(records, "b", occasion="first") is None


def test_a_configured_key_takes_the_place_of_the_last_configured_one_alone(records: Records) -> None:
    make(records, "asked")
    assert make(records, "one", occasion="configured")
    assert make(records, "one", occasion="configured") is None
    assert make(records, "two", occasion="configured")
    assert records.access.find("one").found is None
    assert records.access.find("two").found
    assert records.access.find("asked").found


def test_the_last_use_of_a_key_only_grows(records: Records, client: redis.Redis) -> None:
    make(records, "a")
    records.access.touch({"a": 10.0, "unknown": 1.0})
    once = records.access.keys(1, None, None).data[0].last_used_at
    records.access.touch({"a": 100.0})
    assert once is not None
    assert records.access.keys(1, None, None).data[0].last_used_at == once
    assert client.exists("{ct}:key:unknown") == 0
    assert once.timestamp() == pytest.approx(client.time()[0] - 10, abs=5)


def test_limits_of_a_tenant_are_set_and_removed_one_by_one(records: Records) -> None:
    assert records.access.patch_tenant("acme", {"contexts": 1}) is None
    make(records, "a", "acme")
    records.access.patch_tenant("acme", {"contexts": 5, "artifact_bytes": 10**12})
    tenant = records.access.patch_tenant("acme", {"contexts": None, "queued_jobs": 3})
    assert tenant is not None
    assert tenant.limits == TenantLimits(queued_jobs=3, artifact_bytes=10**12)
    assert records.access.tenant("acme") == tenant


def test_limits_of_a_tenant_hold_for_it_alone(records: Records) -> None:
    make(records, "a", "acme")
    records.access.patch_tenant("acme", {"queued_jobs": 1})
    records.of("acme").contexts.submit(submission())
    with pytest.raises(QuotaReached, match="queued jobs"):
        records.of("acme").contexts.submit(submission())
    records.access.patch_tenant("acme", {"queued_jobs": None, "contexts": 1})
    with pytest.raises(QuotaReached, match="contexts"):
        records.of("acme").contexts.submit(submission())
    for _ in range(3):
        records.of("other").contexts.submit(submission())


def test_bytes_of_artifacts_are_counted_for_each_context_and_bounded(records: Records, client: redis.Redis) -> None:
    make(records, "a", "acme")
    acme, counter = records.of("acme").contexts, "{ct}:t:acme:artifact_bytes"
    stored, _ = acme.submit(submission())
    spec_bytes = int(client.get(counter) or 0)
    assert spec_bytes > 100
    assert records.finish_succeeded(claim(records), "address", REPORT, {}, 1_000_000) == "succeeded"
    held = int(client.get(counter) or 0)
    assert held > spec_bytes + 1_000_000  # the artifact, and the report
    records.access.patch_tenant("acme", {"artifact_bytes": held + spec_bytes})
    second, _ = acme.submit(submission())  # the same examples count once more
    assert int(client.get(counter) or 0) == held + spec_bytes
    with pytest.raises(QuotaReached, match="bytes of artifacts"):
        acme.submit(submission())
    acme.delete(second.context.id)
    acme.delete(stored.context.id)
    assert int(client.get(counter) or 0) == 0


def test_a_deleted_tenant_has_no_keys_takes_nothing_and_leaves_nothing(records: Records, client: redis.Redis) -> None:
    for number in range(3):
        make(records, str(number), "acme")
    make(records, "other", "other")
    records.of("acme").audit.append(None, "key.create", "key_0")
    records.of("other").audit.append(None, "key.create", "other")
    assert sorted(records.access.delete_tenant("acme") or ()) == ["0", "1", "2"]
    assert records.access.find("0").found is None
    tenant = records.access.tenant("acme")
    assert tenant is not None
    assert tenant.status == "deleting"
    with pytest.raises(TenantDeleting):
        make(records, "3", "acme")
    with pytest.raises(TenantGone):
        records.of("acme").contexts.submit(submission())
    with pytest.raises(TenantGone):
        records.of("acme").webhooks.create("https://a.example", tuple(EventType))
    assert records.access.deleting() == ["acme"]
    records.access.remove_rest("acme")
    assert records.access.tenant("acme") is None
    assert records.access.deleting() == []
    with pytest.raises(TenantGone):  # a request that was on its way
        records.of("acme").contexts.submit(submission())
    with pytest.raises(TenantGone):  # else the next tenant of that name would tell it of its jobs
        records.of("acme").webhooks.create("https://a.example", tuple(EventType))
    records.of("acme").usage.add({"inputs": 1}, "meter_1", 1)
    records.of("acme").audit.append(None, "context.create", None)
    assert list(client.scan_iter("{ct}:t:acme:*")) == []
    assert len(records.of("other").audit.page(10).data) == 1
    assert records.access.find("other").found
    with pytest.raises(TenantDeleting):
        make(records, "4", "acme")
    client.zincrby("{ct}:tenants:removed", -600_000, "acme")
    make(records, "4", "acme")  # the name may be used again
    records.of("acme").contexts.submit(submission())


def test_deleting_a_tenant_that_does_not_exist_does_nothing(records: Records) -> None:
    assert records.access.delete_tenant("acme") is None
    assert records.access.deleting() == []


def test_the_audit_log_keeps_the_beginning_of_an_endless_id(records: Records) -> None:
    audit = records.of("acme").audit
    audit.append(None, "context.delete", "a" * 60_000, "refused", 404)
    (entry,) = audit.page(10).data
    assert entry.object_id == "a" * 256
