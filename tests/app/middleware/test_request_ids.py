import asyncio
from pathlib import Path

import httpx
import pytest
import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from app.config import Settings
from tests.app.access.gateway import Service, started
from tests.app.middleware.asking import ask as ask_through


def same(app: ASGIApp) -> ASGIApp:
    return app


def ask(method: str, headers: dict[str, str] | None = None) -> httpx.Response:
    return ask_through(same, method, headers=headers)


@pytest.mark.parametrize("sent", ["mine", "a.b-C_9", "x" * 128])
def test_request_id_of_the_client_is_kept(sent: str) -> None:
    assert ask("GET", headers={"x-request-id": sent}).headers["x-request-id"] == sent


@pytest.mark.parametrize("sent", ["", "a b", "x" * 129, "a\tb", "a/b", '"quoted"'])
def test_other_request_ids_are_replaced(sent: str) -> None:
    given = ask("GET", headers={"x-request-id": sent}).headers["x-request-id"]
    assert given.startswith("req_")
    assert given != ask("GET").headers["x-request-id"]


def test_answer_that_may_hold_texts_is_not_stored_by_caches() -> None:
    assert ask("GET").headers["cache-control"] == "no-store"


def test_lines_that_are_logged_for_a_request_have_its_id() -> None:
    bound: list[dict[str, object]] = []

    def wrap(app: ASGIApp) -> ASGIApp:
        async def note(scope: Scope, receive: Receive, send: Send) -> None:
            bound.append(structlog.contextvars.get_contextvars())
            await app(scope, receive, send)

        return note

    ask_through(wrap, headers={"x-request-id": "mine"})
    assert bound == [{"request_id": "mine"}]


def test_lines_that_are_logged_for_requests_have_no_names_of_users(
    store_url: str, bus_url: str, tmp_path: Path
) -> None:
    async def routes(service: Service) -> list[object]:
        with structlog.testing.capture_logs() as lines:
            for path in ("/contexts/secret-plans", "/secret-plans"):
                await service.http.get(path)
        assert "secret-plans" not in str(lines)
        return [line["route"] for line in lines if line["event"] == "request"]

    async def whole() -> list[object]:
        async with started(Settings(data_dir=tmp_path, store_url=store_url, bus_url=bus_url)) as service:
            return await routes(service)

    assert asyncio.run(whole()) == ["/contexts/{ref}", "none"]
