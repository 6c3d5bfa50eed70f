"""Failures at doors are their vendors' also behind a proxy that removes the beginning of the path."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.config import Settings
from app.main import create_app
from app.records.store import Records
from tests.app.records.steps import FAILURE, claim, submit

ROOTS = ["", "/api", "/v1/decisions"]


@pytest.fixture
def settings(store_url: str, bus_url: str, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, store_url=store_url, bus_url=bus_url, models=("tiny",))


def ask(settings: Settings, root: str, scenario: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    """Run a scenario against a gateway whose server puts ``root`` before each path, as ours does."""

    async def whole() -> None:
        app = create_app(settings)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False, root_path=root)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url=f"http://127.0.0.1{root}", timeout=60) as http,
        ):
            await scenario(http)

    asyncio.run(whole())


@pytest.mark.parametrize("root", ROOTS)
def test_refused_body_has_the_shape_of_its_vendor(settings: Settings, root: str) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        for path, field in (
            ("/v1/decisions", "error"),
            ("/decisions", "error"),
            ("/v1/models/none", "error"),
            ("/v1/systemone", "detail"),
            ("/systemone", "detail"),
            ("/compat/cohere/v1/classify", "message"),
        ):
            answer = await (http.get(path) if "models" in path else http.post(path, json={"bad": 1}))
            problem = answer.json()
            assert answer.headers["content-type"] == "application/json"
            assert answer.headers["x-typesafe-request-id"] == answer.headers["x-request-id"] == problem["request_id"]
            assert problem["instance"] == f"{root}{path}"
            if field == "detail":
                assert problem["detail"][0]["loc"][0] == "body"
            else:
                assert problem[field]
        other = await http.post("/classify", json={"bad": 1})
        assert other.headers["content-type"] == "application/problem+json"
        assert "x-typesafe-request-id" not in other.headers
        missing = await http.get("/docs/assets/decisions")
        assert (missing.status_code, missing.headers["content-type"]) == (404, "application/problem+json")

    ask(settings, root, scenario)


@pytest.mark.parametrize("root", ROOTS)
def test_conflicts_are_told_as_each_client_needs_it(settings: Settings, records: Records, root: str) -> None:
    submit(records, "failed")
    records.finish_failed(claim(records), FAILURE)
    submit(records, "waiting")
    decision = {"input": "hello", "questions": [{"type": "predicate", "instructions": "Is it late?"}]}
    cohere = {"inputs": ["hello"]}

    async def scenario(http: httpx.AsyncClient) -> None:
        async def post(path: str, body: dict[str, Any]) -> tuple[int, str, str | None]:
            answer = await http.post(path, json=body)
            assert int(answer.headers.get("retry-after", 0)) <= 10
            return answer.status_code, answer.json()["code"], answer.headers.get("x-should-retry")

        for name, code, again in (("failed", "context_failed", "false"), ("waiting", "context_not_ready", None)):
            assert await post("/v1/decisions", {"model": name, **decision}) == (409, code, again)
            assert await post("/compat/cohere/v1/classify", {"model": name, **cohere}) == (422, code, again)

    ask(settings, root, scenario)
