import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.middleware import MAX_BODY_BYTES, BodyLimitMiddleware, RequestIdMiddleware

JSON = {"content-type": "application/json"}


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the length of the body."""
    body = await Request(scope, receive).body()
    await Response(str(len(body)))(scope, receive, send)


def ask(method: str, content: Any = None, headers: dict[str, str] | None = None) -> httpx.Response:
    async def request() -> httpx.Response:
        transport = httpx.ASGITransport(RequestIdMiddleware(BodyLimitMiddleware(echo)))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            return await http.request(method, "/", content=content, headers=headers)

    return asyncio.run(request())


async def chunks(count: int, size: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * size


@pytest.mark.parametrize("sent", ["mine", "a.b-C_9", "x" * 128])
def test_request_id_of_the_client_is_kept(sent: str) -> None:
    assert ask("GET", headers={"x-request-id": sent}).headers["x-request-id"] == sent


@pytest.mark.parametrize("sent", ["", "a b", "x" * 129, "a\tb", "a/b", '"quoted"'])
def test_other_request_ids_are_replaced(sent: str) -> None:
    given = ask("GET", headers={"x-request-id": sent}).headers["x-request-id"]
    assert given.startswith("req_")
    assert given != ask("GET").headers["x-request-id"]


def test_body_of_just_the_limit_passes_whole() -> None:
    assert ask("POST", b"x" * MAX_BODY_BYTES, JSON).text == str(MAX_BODY_BYTES)
    assert ask("POST", chunks(8, MAX_BODY_BYTES // 8), JSON).text == str(MAX_BODY_BYTES)


@pytest.mark.parametrize("declared", [True, False])
def test_larger_body_is_413(declared: bool) -> None:
    content = b"x" * (MAX_BODY_BYTES + 1) if declared else chunks(9, MAX_BODY_BYTES // 8)
    response = ask("POST", content, JSON)
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
    assert response.json()["request_id"] == response.headers["x-request-id"]


def test_body_larger_than_it_was_declared_is_413() -> None:
    response = ask("POST", chunks(9, MAX_BODY_BYTES // 8), {**JSON, "content-length": "10"})
    assert response.status_code == 413


@pytest.mark.parametrize("kind", ["text/plain", "", "application/x-www-form-urlencoded", "application/jsonx"])
def test_body_that_is_not_json_by_its_type_is_415(kind: str) -> None:
    response = ask("POST", b"{}", {"content-type": kind})
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json"]
)
def test_json_by_any_of_its_names_passes(kind: str) -> None:
    assert ask("POST", b"{}", {"content-type": kind}).text == "2"


def test_request_without_a_body_needs_no_type() -> None:
    assert ask("POST").text == "0"
