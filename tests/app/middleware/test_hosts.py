from typing import Any

import pytest

from app.middleware.hosts import HostMiddleware
from tests.app.middleware.asking import ask


def status(host: str, path: str = "/contexts", bound: str = "127.0.0.1", allowed: tuple[str, ...] = ()) -> int:
    def wrap(app: Any) -> HostMiddleware:
        return HostMiddleware(app, bound, allowed)

    return ask(wrap, path=path, headers={"host": host}).status_code


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8000", "app.localhost", "localhost.", "127.0.0.1", "127.9.9.9:1", "[::1]", "[::1]:8000"],
)
def test_loopback_names_are_the_services_wherever_it_listens(host: str) -> None:
    assert status(host) == 200
    assert status(host, bound="0.0.0.0") == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "notlocalhost",
        "0.0.0.0",
        "192.0.2.7",
        "",
        "localhost@evil.example",
        "localhost/evil",
        "[::1",
        "*",
    ],
)
def test_other_names_are_refused_and_the_setting_is_named(host: str) -> None:
    response = ask(lambda app: HostMiddleware(app, "0.0.0.0", ()), path="/contexts", headers={"host": host})
    assert (response.status_code, response.json()["code"]) == (421, "host_not_allowed")
    assert "CONTEXTUNE_ALLOWED_HOSTS" in response.json()["detail"]
    assert response.json()["instance"] == "/contexts"


def test_the_address_that_is_listened_on_is_the_services() -> None:
    assert status("192.0.2.7:8000", bound="192.0.2.7") == 200
    assert status("[2001:db8::1]", bound="2001:db8::1") == 200
    assert status("192.0.2.8", bound="192.0.2.7") == 421


@pytest.mark.parametrize(
    ("host", "expected"), [("gateway:8000", 200), ("a.example.org", 200), ("example.org", 421), ("other", 421)]
)
def test_allowed_names_are_added(host: str, expected: int) -> None:
    assert status(host, allowed=("Gateway", "*.example.org")) == expected


def test_star_allows_every_name() -> None:
    assert status("evil.example", allowed=("*",)) == 200


def test_health_and_metrics_are_answered_by_any_name() -> None:
    assert status("10.0.0.7", "/health/ready") == 200
    assert status("10.0.0.7", "/metrics") == 200
    assert status("10.0.0.7", "/healthy") == 421
