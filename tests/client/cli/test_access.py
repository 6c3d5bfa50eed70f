"""The verbs for whoever runs the service: tenants, webhooks, the audit log, and limits of keys."""

import json
from typing import Any

import pytest

from tests.client.answers import AT
from tests.client.cli.conftest import Command
from tests.client.standin import StandIn, says

TENANT: dict[str, Any] = {
    "id": "acme", "object": "tenant", "status": "active", "created_at": AT,
    "limits": {"queued_jobs": 20, "contexts": None, "artifact_bytes": None},
}  # fmt: skip
WEBHOOK = {
    "id": "whk_1", "object": "webhook", "url": "https://example.com/", "events": ["job.failed"], "created_at": AT
}  # fmt: skip
ENTRY = {
    "id": "1-0", "object": "audit_entry", "created_at": AT, "key_id": "key_1", "key_name": "ci", "outcome": "refused",
    "action": "context.delete", "object_id": "ctx_1", "status": 403, "request_id": "req_1",
}  # fmt: skip


def listing(*items: Any) -> Any:
    return says({"object": "list", "data": list(items), "has_more": False, "next": None})


def test_tenants_are_shown_and_limited(service: StandIn, command: Command) -> None:
    service.then(listing(TENANT), says(TENANT), says(TENANT))
    heads, row = command("tenants", "list", "--limit", "5").out.splitlines()
    assert "most queued jobs" in heads
    assert row.split()[:3] == ["acme", "active", "20"]
    assert "most queued jobs  20" in command("tenants", "show", "acme").out
    said = command("tenants", "limit", "acme", "--queued-jobs", "20", "--contexts", "none", "--json")
    assert said.data == TENANT | {"limits": said.data["limits"]}
    listed, _, changed = service.seen
    assert (listed.query, changed.method, changed.path) == ({"limit": "5"}, "PATCH", "/tenants/acme")
    assert json.loads(changed.body) == {"limits": {"queued_jobs": 20, "contexts": None}}


def test_tenant_that_is_not_there_is_told(service: StandIn, command: Command) -> None:
    service.then(says({"status": 404, "code": "tenant_not_found", "detail": "there is no such tenant"}, 404))
    said = command("tenants", "show", "nobody")
    assert (said.status, said.out) == (4, "")
    assert "there is no such tenant [404 tenant_not_found]" in said.err


@pytest.mark.parametrize("arguments", [(), ("--contexts", "0"), ("--queued-jobs", "many")])
def test_limit_that_is_none_is_a_wrong_argument(service: StandIn, command: Command, arguments: tuple[str, ...]) -> None:
    assert command("tenants", "limit", "acme", *arguments).status == 2
    assert service.seen == []


def test_secret_of_a_webhook_is_shown_once(service: StandIn, command: Command) -> None:
    made = {**WEBHOOK, "secret": "whsec_AAAA"}
    service.then(says(made, 201), says(made, 201), listing(WEBHOOK))
    create = ("webhooks", "create", "https://example.com/")
    assert command(*create, "--event", "job.failed").out == "whsec_AAAA\n"
    assert command(*create, "--json").data["secret"] == "whsec_AAAA"
    assert command("webhooks", "list").out.splitlines()[1].startswith("whk_1  https://example.com/  job.failed  2026")
    bodies = [json.loads(seen.body) for seen in service.seen[:2]]
    assert bodies == [{"url": "https://example.com/", "events": ["job.failed"]}, {"url": "https://example.com/"}]


def test_audit_log_is_listed_as_far_as_asked(service: StandIn, command: Command) -> None:
    service.then(listing(ENTRY), listing(ENTRY))
    _, row = command("audit", "--limit", "1").out.splitlines()
    assert row.split()[2:] == ["context.delete", "ctx_1", "refused", "403", "ci"]
    assert command("audit", "--json").data[0]["request_id"] == "req_1"
    assert [seen.query for seen in service.seen] == [{"limit": "1"}, {"limit": "20"}]


def test_key_is_made_with_limits(service: StandIn, command: Command) -> None:
    service.then(says({"id": "key_1", "name": "ci", "key": "ctk_secret"}, 201))
    assert command("keys", "create", "ci", "--scope", "classify", "--requests-per-minute", "60").status == 0
    assert json.loads(service.seen[0].body)["limits"] == {"requests_per_minute": 60}
