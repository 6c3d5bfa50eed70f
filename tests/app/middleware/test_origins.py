import pytest

from app.middleware.origins import OriginMiddleware
from tests.app.middleware.asking import ask


def status(method: str = "POST", path: str = "/jobs/job_1/cancel", **headers: str) -> int:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return ask(lambda app: OriginMiddleware(app, ("https://app.example",)), method, path, headers=given).status_code


def test_client_that_is_no_browser_may_change_something() -> None:
    assert status() == 200


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://127.0.0.1:3000",
        "http://127.0.0.1",
        "",
        "://",
        "http://[",
        "127.0.0.1:8000",
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_page_of_another_origin_may_not(method: str, origin: str) -> None:
    assert status(method, origin=origin) == 403


def test_refusal_names_the_setting() -> None:
    response = ask(lambda app: OriginMiddleware(app, ()), "DELETE", headers={"origin": "http://evil.example"})
    assert response.json()["code"] == "origin_not_allowed"
    assert "CONTEXTUNE_ALLOWED_ORIGINS" in response.json()["detail"]


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:8000"),
        ("https://contextune.example", "contextune.example"),  # TLS ended before the service
        ("https://contextune.example", "contextune.example:443"),
        ("http://Contextune.example:80", "contextune.example"),
    ],
)
def test_pages_of_the_service_may(origin: str, host: str) -> None:
    assert status(origin=origin, host=host) == 200


def test_page_that_the_browser_calls_cross_site_may_not_even_without_an_origin() -> None:
    assert status(sec_fetch_site="cross-site") == 403
    assert status(sec_fetch_site="same-origin") == 200
    assert status(sec_fetch_site="none") == 200


def test_allowed_origin_may_although_it_is_another_site() -> None:
    assert status(origin="https://app.example", sec_fetch_site="cross-site") == 200
    assert status(origin="https://app.example.evil.example", sec_fetch_site="cross-site") == 403


def test_reading_needs_no_permission() -> None:
    assert status("GET", origin="http://evil.example", sec_fetch_site="cross-site") == 200
