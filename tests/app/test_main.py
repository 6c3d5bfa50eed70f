"""The gateway as an application, with servers or without, but with no worker."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.config import Settings
from app.contract.names import ErrorCode
from app.main import create_app
from app.routes.classify import EXAMPLE_BODY as CLASSIFY_EXAMPLE
from app.routes.classify import Query
from app.routes.contexts import EXAMPLE_BODY as CONTEXT_EXAMPLE
from app.routes.contexts import NewContext

POST_BODIES: list[tuple[str, dict[str, Any]]] = [
    ("/contexts", CONTEXT_EXAMPLE),
    ("/classify", CLASSIFY_EXAMPLE),
]


def ask(settings: Settings, scenario: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    """Run a scenario against a started gateway."""

    async def whole() -> None:
        app = create_app(settings)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as http,
        ):
            await scenario(http)

    asyncio.run(whole())


def settings_without_servers(folder: Path) -> Settings:
    return Settings(data_dir=folder, redis_url=f"unix://{folder}/no-store", bus_url=f"unix://{folder}/no-bus")


def test_without_urls_the_gateway_does_not_start(tmp_path: Path) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        raise AssertionError("it started")

    with pytest.raises(ValueError, match="CONTEXTUNE_REDIS_URL"):
        ask(Settings(data_dir=tmp_path), scenario)


def test_gateway_without_servers_lives_and_says_what_is_missing(tmp_path: Path) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        assert (await http.get("/health/live")).json() == {"status": "ok"}
        ready = await http.get("/health/ready")
        assert ready.status_code == 503
        checks = ready.json()["checks"]
        assert (ready.json()["status"], checks["store"], checks["bus"]) == ("not_ready", "unavailable", "unavailable")
        assert {model["status"] for model in checks["models"].values()} == {"no_worker"}

    ask(settings_without_servers(tmp_path), scenario)


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("GET", "/contexts", None, "store_unavailable"),
        ("GET", "/contexts/intents", None, "store_unavailable"),
        ("DELETE", "/contexts/ctx_1", None, "store_unavailable"),
        ("GET", "/jobs", None, "store_unavailable"),
        ("GET", "/jobs/job_1?wait=10", None, "store_unavailable"),
        ("POST", "/jobs/job_1/cancel", None, "store_unavailable"),
        ("POST", "/classify", CLASSIFY_EXAMPLE, "store_unavailable"),
        ("POST", "/contexts", CONTEXT_EXAMPLE, "bus_unavailable"),
    ],
)
def test_without_servers_every_route_is_503(
    tmp_path: Path, method: str, path: str, body: dict[str, Any] | None, code: str
) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        response = await http.request(method, path, json=body)
        assert (response.status_code, response.json()["code"]) == (503, code)
        assert response.headers["retry-after"]

    ask(settings_without_servers(tmp_path), scenario)


@pytest.fixture
def settings(store_url: str, bus_url: str, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, redis_url=store_url, bus_url=bus_url)


def test_without_a_worker_a_context_is_refused_and_not_stored(settings: Settings) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        response = await http.post("/contexts", json=CONTEXT_EXAMPLE)
        async with asyncio.timeout(20):
            while response.json()["code"] == "bus_unavailable":
                response = await http.post("/contexts", json=CONTEXT_EXAMPLE)
        assert (response.status_code, response.json()["code"]) == (503, "no_worker")
        assert (await http.get("/contexts")).json() == {"object": "list", "data": [], "has_more": False}
        (model,) = (await http.get("/models")).json()["data"]
        assert (model["workers"], model["parameters"]) == (0, None)

    ask(settings, scenario)


def test_list_that_cannot_go_on_is_422(settings: Settings) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        for path in ("/contexts", "/jobs"):
            response = await http.get(path, params={"after": "ctx_unknown"})
            assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
            assert response.json()["param"] == "/after"

    ask(settings, scenario)


# -- the description --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def description(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return json.loads(json.dumps(create_app(Settings(data_dir=tmp_path_factory.mktemp("data"))).openapi()))


def nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
    for child in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from nodes(child)


def test_description_lists_every_route(description: Any) -> None:
    assert description["openapi"].startswith("3.1")
    operations = {(method, path) for path, item in description["paths"].items() for method in item}
    assert operations == {
        ("post", "/contexts"),
        ("get", "/contexts"),
        ("get", "/contexts/{ref}"),
        ("delete", "/contexts/{context_id}"),
        ("get", "/jobs"),
        ("get", "/jobs/{job_id}"),
        ("post", "/jobs/{job_id}/cancel"),
        ("post", "/classify"),
        ("get", "/models"),
        ("get", "/health/live"),
        ("get", "/health/ready"),
    }
    ids = [operation["operationId"] for item in description["paths"].values() for operation in item.values()]
    assert len(set(ids)) == len(ids)


def test_every_reference_of_the_description_leads_somewhere(description: Any) -> None:
    references = [node["$ref"] for node in nodes(description) if isinstance(node.get("$ref"), str)]
    assert references
    for reference in references:
        target = description
        assert reference.startswith("#/")
        for part in reference[2:].split("/"):
            assert part in target, reference
            target = target[part]


def test_every_operation_describes_its_problems(description: Any) -> None:
    for path, item in description["paths"].items():
        for operation in item.values():
            problems = {status for status, answer in operation["responses"].items() if status[0] in "45"}
            assert all(re.fullmatch(r"[45]\d\d", status) for status in problems)
            for status in problems - {"503"} if path == "/health/ready" else problems:
                assert list(operation["responses"][status]["content"]) == ["application/problem+json"], (path, status)


def test_problem_of_the_description_has_every_code(description: Any) -> None:
    schema = description["components"]["schemas"]
    assert set(schema["ErrorCode"]["enum"]) == set(ErrorCode)
    assert set(schema["ProblemDocument"]["required"]) == {
        "type", "title", "status", "detail", "instance", "code", "param", "request_id",
    }  # fmt: skip


@pytest.mark.parametrize(("path", "body"), POST_BODIES)
def test_examples_of_the_description_are_what_the_routes_take(
    description: Any, path: str, body: dict[str, Any]
) -> None:
    shown = description["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    assert shown["example"] == body
    assert "$ref" in shown["schema"]
    model = NewContext if path == "/contexts" else Query
    assert model.model_validate(body)
