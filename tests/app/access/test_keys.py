"""``/keys``, ``/audit`` and ``/usage`` as their users see them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.config import Settings
from app.contract.access import ALL_SCOPES, Scope
from tests.app.access.gateway import Service, serve
from tests.app.records.steps import submit


async def create(service: Service, secret: str, **body: Any) -> Any:
    return await service.ask(secret, "POST", "/keys", json={"name": "bot", "scopes": ["read"], **body})


def test_a_key_is_shown_once_with_its_secret_and_listed_without(settings: Settings) -> None:
    async def scenario(service: Service) -> None:
        admin = service.key(Scope.ADMIN, tenant="acme")
        end = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        answer = await create(service, admin, expires_at=end, limits={"requests_per_minute": 5})
        assert answer.status_code == 201
        assert answer.headers["cache-control"] == "no-store"
        made = answer.json()
        secret = made.pop("key")
        assert secret.startswith("ctk_")
        assert (made["tenant"], made["scopes"], made["object"]) == ("acme", ["read"], "key")
        assert made["limits"] == {"requests_per_minute": 5, "inputs_per_minute": None}
        listed = (await service.ask(admin, "GET", "/keys")).json()["data"]
        assert listed[0] == made
        assert (await service.ask(secret, "GET", "/contexts")).status_code == 200
        assert (await service.ask(admin, "DELETE", f"/keys/{made['id']}")).status_code == 204
        assert (await service.ask(secret, "GET", "/contexts")).status_code == 401
        assert (await service.ask(admin, "DELETE", f"/keys/{made['id']}")).status_code == 204

    serve(settings, scenario)


def test_a_repeated_request_makes_one_key_and_shows_its_secret_once(settings: Settings) -> None:
    async def scenario(service: Service) -> None:
        admin = service.key(Scope.ADMIN, tenant="acme")

        async def post(name: str = "bot") -> Any:
            body, headers = {"name": name, "scopes": ["read"]}, {"Idempotency-Key": "once"}
            return await service.ask(admin, "POST", "/keys", json=body, headers=headers)

        first, again, other = await post(), await post(), await post("other")
        assert (first.status_code, again.status_code) == (201, 201)
        assert first.json()["key"].startswith("ctk_")
        assert again.json() == {**first.json(), "key": None}
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
        assert len((await service.ask(admin, "GET", "/keys")).json()["data"]) == 2
        await service.ask(admin, "DELETE", f"/keys/{first.json()['id']}")
        gone = await post()
        assert (gone.status_code, gone.json()["code"]) == (410, "deleted")

    serve(settings, scenario)


@pytest.mark.parametrize(
    ("holder", "body", "status"),
    [
        ((Scope.ADMIN,), {"scopes": ["admin", "read", "classify", "contexts:write"]}, 201),
        ((Scope.ADMIN,), {"scopes": ["operator"]}, 403),
        ((Scope.ADMIN,), {"scopes": ["read"], "tenant": "other"}, 403),
        ((Scope.ADMIN,), {"scopes": ["read"], "tenant": "acme"}, 201),
        ((Scope.OPERATOR,), {"scopes": list(ALL_SCOPES), "tenant": "other"}, 201),
        ((Scope.OPERATOR,), {"scopes": ["admin"]}, 201),
        ((Scope.CONTEXTS_WRITE,), {"scopes": ["read"]}, 403),
    ],
)
def test_a_caller_gives_what_it_holds_and_an_operator_anything(
    settings: Settings, holder: tuple[Scope, ...], body: dict[str, Any], status: int
) -> None:
    async def scenario(service: Service) -> None:
        answer = await create(service, service.key(*holder, tenant="acme"), **body)
        assert answer.status_code == status
        if status == 403:
            assert answer.json()["code"] == "insufficient_scope"
            assert len(service.records.access.keys(10, None, None).data) == 1

    serve(settings, scenario)


@pytest.mark.parametrize(
    ("scope", "wanted", "made"),
    [
        (Scope.ADMIN, {}, {"requests_per_minute": 30, "inputs_per_minute": None}),
        (Scope.ADMIN, {"requests_per_minute": 30, "inputs_per_minute": 9}, None),
        (Scope.ADMIN, {"requests_per_minute": 2}, {"requests_per_minute": 2, "inputs_per_minute": None}),
        (Scope.ADMIN, {"requests_per_minute": 31}, "/limits/requests_per_minute"),
        (Scope.OPERATOR, {}, {"requests_per_minute": None, "inputs_per_minute": None}),
        (Scope.OPERATOR, {"requests_per_minute": 31, "inputs_per_minute": 9}, None),
    ],
)
def test_a_key_has_no_more_than_the_limits_of_the_one_that_made_it(
    settings: Settings, scope: Scope, wanted: dict[str, int], made: Any
) -> None:
    """``made`` None are the limits as wanted, a pointer is where they are refused."""

    async def scenario(service: Service) -> None:
        answer = await create(service, service.key(scope, requests_per_minute=30), scopes=["admin"], limits=wanted)
        if isinstance(made, str):
            problem = answer.json()
            assert (answer.status_code, problem["code"], problem["param"]) == (403, "insufficient_scope", made)
        else:
            assert (answer.status_code, answer.json()["limits"]) == (201, wanted if made is None else made)

    serve(settings, scenario)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"name": ""}, "/name"),
        ({"name": "x" * 129}, "/name"),
        ({"scopes": []}, "/scopes"),
        ({"scopes": ["everything"]}, "/scopes/0"),
        ({"tenant": "No Capitals"}, "/tenant"),
        ({"tenant": "x" * 41}, "/tenant"),
        ({"tenant": "with:colon"}, "/tenant"),
        ({"expires_at": "tomorrow"}, "/expires_at"),
        ({"expires_at": "2026-01-01T00:00:00"}, "/expires_at"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
        ({"expires_at": "9999-12-31T23:59:59-12:00"}, "/expires_at"),
        ({"expires_at": "0001-01-01T00:00:00+12:00"}, "/expires_at"),
        ({"limits": {"requests_per_minute": 0}}, "/limits/requests_per_minute"),
        ({"limits": {"requests_per_minute": 1.5}}, "/limits/requests_per_minute"),
        ({"limits": {"requests_per_hour": 1}}, "/limits/requests_per_hour"),
        ({"key": "ctk_chosen"}, "/key"),
    ],
)
def test_a_bad_key_is_refused_and_makes_nothing(settings: Settings, body: dict[str, Any], param: str) -> None:
    async def scenario(service: Service) -> None:
        answer = await create(service, service.key(), **body)
        assert (answer.status_code, answer.json()["param"]) == (422, param)
        assert len(service.records.access.keys(10, None, None).data) == 1

    serve(settings, scenario)


def test_a_key_that_is_revoked_while_its_request_arrives_makes_no_other(settings: Settings) -> None:
    async def scenario(service: Service) -> None:
        operator, admin = service.key(Scope.OPERATOR), service.key(Scope.ADMIN, tenant="acme")
        (key,) = service.records.access.keys(1, None, "acme").data

        async def body() -> AsyncIterator[bytes]:
            yield b'{"name": "another", '
            assert (await service.ask(operator, "DELETE", f"/keys/{key.id}")).status_code == 204
            yield b'"scopes": ["admin"]}'

        answer = await service.ask(admin, "POST", "/keys", content=body(), headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (401, "key_invalid")
        assert service.records.access.keys(10, None, "acme").data == ()

    serve(settings, scenario)


def test_an_operator_lists_and_revokes_the_keys_of_all_tenants_others_their_own(settings: Settings) -> None:
    async def scenario(service: Service) -> None:
        operator, admin = service.key(Scope.OPERATOR), service.key(Scope.ADMIN, tenant="acme")
        service.key(Scope.READ, tenant="other")

        async def tenants(secret: str, query: str = "") -> list[str]:
            return [key["tenant"] for key in (await service.ask(secret, "GET", f"/keys{query}")).json()["data"]]

        assert await tenants(operator) == ["other", "acme", "default"]
        assert await tenants(operator, "?tenant=other") == ["other"]
        assert await tenants(operator, "?tenant=nobody") == []
        assert await tenants(admin) == ["acme"]
        assert (await service.ask(admin, "GET", "/keys?tenant=other")).status_code == 403
        (others,) = service.records.access.keys(1, None, "other").data
        assert (await service.ask(admin, "DELETE", f"/keys/{others.id}")).status_code == 204
        assert await tenants(operator, "?tenant=other") == ["other"]
        assert (await service.ask(operator, "DELETE", f"/keys/{others.id}")).status_code == 204
        assert await tenants(operator, "?tenant=other") == []

    serve(settings, scenario)


def test_changes_stand_in_the_audit_log_with_who_what_and_how_they_ended(settings: Settings) -> None:
    async def scenario(service: Service) -> None:
        admin = service.key(Scope.ADMIN, tenant="acme")
        made = (await create(service, admin)).json()
        await create(service, admin, scopes=[])
        context, _ = submit(service.records, "intents", "acme")
        answer = await service.ask(admin, "DELETE", f"/contexts/{context}", headers={"X-Request-Id": "req-7"})
        assert answer.status_code == 204
        await service.ask(admin, "GET", "/contexts")
        reader = made["key"]
        assert (await service.ask(reader, "DELETE", f"/contexts/{context}")).status_code == 403
        assert (await service.ask(reader, "GET", "/audit")).status_code == 403
        entries = (await service.ask(admin, "GET", "/audit")).json()["data"]
        said = [(entry["action"], entry["object_id"], entry["outcome"], entry["status"]) for entry in entries]
        assert said == [
            ("context.delete", context, "refused", 403),
            ("context.delete", context, "succeeded", 204),
            ("key.create", None, "refused", 422),
            ("key.create", made["id"], "succeeded", 201),
        ]
        assert entries[1]["request_id"] == "req-7"
        assert [entry["key_name"] for entry in entries[1:]] == ["test"] * 3
        assert made["key"] not in str(entries)
        other = service.key(Scope.ADMIN, tenant="other")
        assert (await service.ask(other, "GET", "/audit")).json()["data"] == []

    serve(settings, scenario)


def test_a_dry_run_is_no_change(settings: Settings) -> None:
    async def scenario(service: Service) -> None:
        admin = service.key(Scope.ADMIN, tenant="acme")
        await service.ask(admin, "POST", "/contexts?dry_run=true", json={"base_context": "nothing"})
        assert (await service.ask(admin, "GET", "/audit")).json()["data"] == []

    serve(settings, scenario)


def test_usage_and_last_use_are_added_up_and_written_together(settings: Settings) -> None:
    async def scenario(service: Service) -> None:
        admin = service.key(Scope.ADMIN, tenant="acme")
        meter = service.app.state.gateway.access.meter
        for _ in range(3):
            meter.add("acme", inputs=2, input_tokens=20, context_tokens=100)
        assert service.records.of("acme").usage.days() == ()  # a request to classify writes nothing
        usage = (await service.ask(admin, "GET", "/usage")).json()
        assert usage["object"] == "usage"
        (day,) = usage["data"]
        assert {name: day[name] for name in ("requests", "inputs", "input_tokens", "context_tokens")} == {
            "requests": 3,
            "inputs": 6,
            "input_tokens": 60,
            "context_tokens": 300,
        }
        (key,) = (await service.ask(admin, "GET", "/keys")).json()["data"]
        assert key["last_used_at"] is not None
        other = service.key(Scope.READ, tenant="other")
        assert (await service.ask(other, "GET", "/usage")).json()["data"] == []

    serve(settings, scenario)


def test_what_was_counted_is_written_when_the_gateway_stops(settings: Settings) -> None:
    async def scenario(service: Service) -> None:
        service.app.state.gateway.access.meter.add("acme", inputs=2, input_tokens=20, context_tokens=100)

    async def later(service: Service) -> None:
        (day,) = await asyncio.to_thread(service.records.of("acme").usage.days)
        assert day.inputs == 2

    serve(settings, scenario)
    serve(settings, later)


def test_inputs_are_limited_too_and_more_than_a_minutes_worth_never_fits(settings: Settings) -> None:
    async def scenario(service: Service) -> None:
        secret = service.key(Scope.CLASSIFY, requests_per_minute=100, inputs_per_minute=3)

        async def classify(count: int) -> Any:
            return await service.ask(secret, "POST", "/classify", json={"context": "none", "inputs": ["a"] * count})

        assert (await classify(2)).status_code == 404
        refused = await classify(2)
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert refused.headers["ratelimit-policy"] == '"requests";q=100;w=60, "inputs";q=3;w=60;qu="inputs"'
        wait = int(refused.headers["retry-after"])
        assert 0 < wait <= 20
        assert f'"inputs";r=1;t={wait}' in refused.headers["ratelimit"]
        assert (await classify(1)).status_code == 404
        impossible = await classify(4)
        assert (impossible.status_code, impossible.json()["code"]) == (422, "too_many_inputs")

    serve(settings, scenario)


def test_without_the_bus_requests_are_not_limited(settings: Settings) -> None:
    async def scenario(service: Service) -> None:
        secret = service.key(requests_per_minute=1)
        for _ in range(3):
            answer = await service.ask(secret, "GET", "/contexts")
            assert answer.status_code == 200
            assert "ratelimit" not in answer.headers

    serve(settings.model_copy(update={"bus_url": f"unix://{settings.data_dir}/none"}), scenario)
