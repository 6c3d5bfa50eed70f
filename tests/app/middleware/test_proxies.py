import ipaddress
from typing import Any

import pytest

from app.middleware.proxies import ProxyMiddleware
from tests.app.middleware.asking import ask

HEADERS = [
    ("X-Forwarded-For", "198.51.100.9, 203.0.113.5"),
    ("X-Forwarded-For", "10.0.0.3"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "contextune.example"),
    ("Forwarded", "for=1.2.3.4"),
]


def seen(client: str, headers: list[tuple[str, str]] = HEADERS) -> dict[str, Any]:
    trusted = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1/128"))
    answer: dict[str, Any] = ask(lambda app: ProxyMiddleware(app, trusted), client=client, headers=headers).json()
    return answer


def test_trusted_proxy_is_believed_as_far_as_proxies_of_ours_wrote_it() -> None:
    what = seen("10.0.0.2")
    assert (what["client"], what["scheme"], what["host"]) == ("203.0.113.5", "https", "contextune.example")
    assert what["forwarded"] is True


@pytest.mark.parametrize("client", ["192.0.2.1", "testclient"])
def test_nobody_else_is(client: str) -> None:
    what = seen(client)
    assert (what["client"], what["scheme"], what["host"]) == (client, "http", "127.0.0.1:8000")
    assert what["forwarded"] is True
    assert not [name for name in what["headers"] if "forwarded" in name]


def test_request_without_such_headers_is_left_as_it_is() -> None:
    what = seen("10.0.0.2", [])
    assert (what["client"], what["scheme"], what["host"]) == ("10.0.0.2", "http", "127.0.0.1:8000")
    assert what["forwarded"] is False


def test_scheme_that_is_none_is_not_taken_over() -> None:
    assert seen("::1", [("X-Forwarded-Proto", "javascript")])["scheme"] == "http"
