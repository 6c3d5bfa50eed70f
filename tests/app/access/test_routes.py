"""Every route: without a key, with the wrong scope, over the limit; and what each declares."""

import re

import pytest

from app.config import Settings
from app.contract.access import ALL_SCOPES, Scope, effective
from tests.app.access.gateway import Service, serve
from tests.app.access.routes import Guarded, guarded, undeclared

#: Parts of the paths of other services' routes.
DOORS = ("/decisions", "/systemone", "/v1/models", "/compat/")
#: What only asks, although it is sent with POST.
READ_BY_POST = ("/classify", "/decisions", "/systemone")


def without(route: Guarded) -> tuple[Scope, ...]:
    """All scopes that do not open the route."""
    return tuple(scope for scope in ALL_SCOPES if effective([scope]).isdisjoint(route.needs.scopes))


def test_every_route_says_who_may_use_it() -> None:
    assert not undeclared(), "give the router the class GuardedRoute, and the route `needs(…)` or PUBLIC"


@pytest.mark.parametrize("route", guarded(), ids=str)
def test_a_route_names_a_scope_and_what_it_changes(route: Guarded) -> None:
    assert route.needs.scopes
    assert without(route), "a scope that opens everything is no scope"
    may_change = route.method != "GET" and not route.path.endswith(READ_BY_POST)
    assert bool(route.needs.change) == may_change, "the audit log has a line for every change, and for nothing else"


def test_without_a_key_every_route_is_401(settings: Settings) -> None:
    async def scenario(service: Service) -> None:
        service.key()
        for secret, code, challenge in (
            (None, "key_required", 'Bearer realm="contextune"'),
            ("ctk_wrong", "key_invalid", 'Bearer realm="contextune", error="invalid_token"'),
        ):
            for route in guarded():
                answer = await service.ask(secret, route.method, route.url(), content=b"{")
                assert (answer.status_code, answer.json()["code"]) == (401, code), route
                assert answer.headers["www-authenticate"] == challenge
                assert "ctk_wrong" not in answer.text

    serve(settings, scenario)


def test_with_every_other_scope_every_route_is_403(settings: Settings) -> None:
    async def scenario(service: Service) -> None:
        for route in guarded():
            answer = await service.ask(service.key(*without(route)), route.method, route.url(), content=b"{")
            assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope"), route
            assert answer.headers["www-authenticate"].endswith('error="insufficient_scope"')
        entries = (await service.ask(service.key(), "GET", "/audit?limit=100")).json()["data"]
        assert {(entry["outcome"], entry["status"]) for entry in entries} == {("refused", 403)}  # nothing was changed
        assert {entry["action"] for entry in entries} == {route.needs.change for route in guarded()} - {None}

    serve(settings, scenario)


def test_with_each_of_its_scopes_a_route_lets_in(settings: Settings) -> None:
    async def scenario(service: Service) -> None:
        for route in guarded():
            for scope in ALL_SCOPES:
                if not effective([scope]).isdisjoint(route.needs.scopes):
                    answer = await service.ask(service.key(scope), route.method, route.url(), content=b"{")
                    assert answer.status_code not in (401, 403), (str(route), scope)

    serve(settings, scenario)


def test_over_the_limit_every_route_is_429(settings: Settings) -> None:
    async def scenario(service: Service) -> None:
        for route in guarded():
            secret = service.key(requests_per_minute=1)
            first, second = [await service.ask(secret, route.method, route.url(), content=b"{") for _ in range(2)]
            assert first.status_code != 429, route
            assert first.headers["ratelimit-policy"] == '"requests";q=1;w=60'
            assert first.headers["ratelimit"] == '"requests";r=0;t=60'
            assert (second.status_code, second.json()["code"]) == (429, "rate_limited"), route
            wait = int(second.headers["retry-after"])
            full = re.fullmatch(r'"requests";r=0;t=(\d+)', second.headers["ratelimit"])
            assert full, route
            assert 0 < int(full[1]) <= 60
            door = any(name in route.path for name in DOORS)
            assert wait == (min(10, int(full[1])) if door else int(full[1])), (
                "a door's clients wait for ten seconds at most"
            )
            assert wait - 1 <= int(second.headers["retry-after-ms"]) / 1000 <= wait

    serve(settings, scenario)
