"""``/tenants`` as an operator sees them, and their removal."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from app.admin.tenants import remove_deleted
from app.config import Settings
from app.contract.access import ALL_SCOPES, KeyLimits, Scope
from app.contract.names import artifact_url
from app.records.files import ArtifactsUnavailable
from app.records.store import Records
from tests.app.access.gateway import Service, serve
from tests.app.records.steps import REPORT, batch, claim, submit, succeed
from tests.waiting import eventually


def test_a_tenant_exists_from_its_first_key_on(settings: Settings) -> None:
    async def scenario(service: Service) -> None:
        operator = service.key(Scope.OPERATOR)
        assert (await service.ask(operator, "GET", "/tenants/acme")).json()["code"] == "tenant_not_found"
        body = {"name": "first", "scopes": ["admin"], "tenant": "acme"}
        await service.ask(operator, "POST", "/keys", json=body)
        tenant = (await service.ask(operator, "GET", "/tenants/acme")).json()
        assert (tenant["id"], tenant["object"], tenant["status"]) == ("acme", "tenant", "active")
        listed = (await service.ask(operator, "GET", "/tenants")).json()["data"]
        assert [one["id"] for one in listed] == ["acme", "default"]

    serve(settings, scenario)


def test_limits_of_a_tenant_are_patched_and_hold(settings: Settings) -> None:
    async def scenario(service: Service) -> None:
        operator = service.key(Scope.OPERATOR)
        service.key(Scope.ADMIN, tenant="acme")
        patched = await service.ask(operator, "PATCH", "/tenants/acme", json={"limits": {"contexts": 7}})
        assert patched.json()["limits"] == {"queued_jobs": None, "contexts": 7, "artifact_bytes": None}
        body = {"limits": {"contexts": None, "queued_jobs": 2}}
        again = await service.ask(operator, "PATCH", "/tenants/acme", json=body)
        assert again.json()["limits"] == {"queued_jobs": 2, "contexts": None, "artifact_bytes": None}
        assert (await service.ask(operator, "PATCH", "/tenants/none", json=body)).status_code == 404

    serve(settings, scenario)


@pytest.mark.parametrize(
    "body", [{}, {"limits": None}, {"limits": {"contexts": -1}}, {"limits": {"jobs": 1}}, {"status": "active"}]
)
def test_bad_changes_are_refused(settings: Settings, body: dict[str, Any]) -> None:
    async def scenario(service: Service) -> None:
        assert (await service.ask(service.key(), "PATCH", "/tenants/default", json=body)).status_code == 422

    serve(settings, scenario)


def test_a_deleted_tenant_is_shut_out_at_once_and_all_that_it_owns_is_removed(
    settings: Settings, client: redis.Redis
) -> None:
    async def scenario(service: Service) -> None:
        records = service.records
        operator, acme = service.key(Scope.OPERATOR), service.key(Scope.ADMIN, tenant="acme")
        other = service.key(Scope.READ, tenant="other")
        succeed(records, "intents", "acme")
        records.of("acme").contexts.set_alias("intents", "prod", 1)
        submit(records, "second", "acme")
        work = claim(records)
        submit(records, "third", "acme")
        made: dict[str, Any] = {"content": b'{"text": "a"}', "headers": {"Content-Type": "application/jsonl"}}
        assert (await service.ask(acme, "POST", "/batches?context=intents", **made)).status_code == 202
        kept, _ = submit(records, "kept", "other")
        assert (await service.ask(acme, "GET", "/contexts")).status_code == 200
        assert (await service.ask(operator, "DELETE", "/tenants/acme")).status_code == 202
        assert (await service.ask(acme, "GET", "/contexts")).status_code == 401
        await asyncio.to_thread(records.finish_cancelled, work)  # what its worker does, within a step
        await asyncio.to_thread(eventually, lambda: records.access.tenant("acme") is None, 60)
        assert (await service.ask(operator, "GET", "/tenants/acme")).status_code == 404
        assert [key for key in client.scan_iter("*") if "acme" in key] == []
        assert [one["id"] for one in (await service.ask(other, "GET", "/contexts")).json()["data"]] == [kept]
        entries = (await service.ask(service.key(Scope.ADMIN), "GET", "/audit")).json()["data"]
        assert [(entry["action"], entry["object_id"]) for entry in entries] == [("tenant.delete", "acme")]

    serve(settings, scenario)


def test_deleting_a_tenant_that_is_not_there_changes_nothing(settings: Settings) -> None:
    async def scenario(service: Service) -> None:
        operator = service.key(Scope.OPERATOR)
        assert (await service.ask(operator, "DELETE", "/tenants/acme")).status_code == 204

    serve(settings, scenario)


def test_a_tenant_whose_files_cannot_be_removed_holds_up_no_other(records: Records, tmp_path: Path) -> None:
    artifacts = f"file://{tmp_path}/artifacts"
    for tenant in ("acme", "other"):
        records.access.create_key(f"key_{tenant}", tenant, tenant, "test", ALL_SCOPES, KeyLimits(), None)
        submit(records, tenant=tenant)
        assert records.finish_succeeded(claim(records), f"of-{tenant}", REPORT, {}) == "succeeded"
        records.access.delete_tenant(tenant)
    stuck = Path(artifact_url(artifacts, "of-acme").removeprefix("file://"))
    stuck.mkdir(parents=True)
    with pytest.raises(ArtifactsUnavailable):
        remove_deleted(records, artifacts)
    assert [records.access.tenant(tenant) is None for tenant in ("acme", "other")] == [False, True]


def test_many_may_remove_a_tenant_at_once(records: Records, client: redis.Redis, tmp_path: Path) -> None:
    folder = tmp_path / "artifacts"
    records.access.create_key("key_1", "1", "acme", "test", ALL_SCOPES, KeyLimits(), None)
    batch(records, f"file://{folder}", 450, tenant="acme")
    records.access.delete_tenant("acme")
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda _: remove_deleted(records, f"file://{folder}"), range(3)))
    assert records.access.tenant("acme") is None
    assert [file for file in folder.rglob("*") if file.is_file()] == []
    assert client.keys("{ct}:refs:*") == []


def test_tenant_with_rows_of_a_newer_format_stays_until_a_program_that_reads_them_removes_it(
    records: Records, client: redis.Redis, tmp_path: Path
) -> None:
    artifacts = f"file://{tmp_path}/artifacts"
    records.access.create_key("key_1", "1", "acme", "test", ALL_SCOPES, KeyLimits(), None)
    made = [submit(records, tenant="acme") for _ in range(2)]
    assert claim(records).job_id == made[0][1]
    rows = [f"{{ct}}:t:acme:{kind}:{one}" for pair in made for kind, one in zip(("context", "job"), pair, strict=True)]
    for row in rows:
        client.hset(row, "format", 2)
    records.access.delete_tenant("acme")
    remove_deleted(records, artifacts)
    assert records.access.tenant("acme") is not None
    assert client.exists(*rows) == len(rows)
    client.zadd("{ct}:leases", {f"acme:{made[0][1]}": 1})
    _, job_id = submit(records)
    assert records.sweep() == {}
    assert claim(records).job_id == job_id
    for row in rows:
        client.hset(row, "format", 1)
    assert [status for _, status in records.sweep().items()] == ["queued"]
    remove_deleted(records, artifacts)
    assert records.access.tenant("acme") is None
    assert [key for key in client.scan_iter("*") if "acme" in key] == []


def test_context_that_a_batch_of_a_newer_format_needs_holds_up_no_other_tenant(
    records: Records, client: redis.Redis, tmp_path: Path
) -> None:
    artifacts = f"file://{tmp_path}/artifacts"
    for tenant in ("acme", "other"):
        records.access.create_key(f"key_{tenant}", tenant, tenant, "test", ALL_SCOPES, KeyLimits(), None)
    job_id = batch(records, artifacts, 1, tenant="acme")
    (context,) = records.of("acme").contexts.page(10).data
    client.hset(f"{{ct}}:t:acme:job:{job_id}", "format", 2)
    client.hset(f"{{ct}}:t:acme:context:{context.context.id}", "batches", 1)  # as if it had not ended
    for tenant in ("acme", "other"):
        records.access.delete_tenant(tenant)
    remove_deleted(records, artifacts)
    assert [records.access.tenant(tenant) is None for tenant in ("acme", "other")] == [False, True]
