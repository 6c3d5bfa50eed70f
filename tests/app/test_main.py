"""The gateway as an application, with servers or without, but with no worker."""

import asyncio
import json
import re
import socket
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.config import Settings
from app.contract.messages import DeviceState
from app.contract.names import ErrorCode
from app.contract.objects import Report
from app.main import create_app
from app.records.store import Records
from app.routes.classify import EXAMPLE_BODY as CLASSIFY_EXAMPLE
from app.routes.classify import ClassifyRequest
from app.routes.context_creation import EXAMPLE_BODY as CONTEXT_EXAMPLE
from app.routes.context_creation import NewContext
from tests.app.gateway import ask, settings_without_servers
from tests.app.standin import MODEL, StandIn
from tests.submissions import submission
from tests.waiting import eventually

POST_BODIES: list[tuple[str, dict[str, Any]]] = [
    ("/contexts", CONTEXT_EXAMPLE),
    ("/classify", CLASSIFY_EXAMPLE),
]


DEVICE = DeviceState(id="cuda:0", name="NVIDIA H100", total_bytes=80 * 10**9, free_bytes=70 * 10**9)


def test_without_urls_the_gateway_does_not_start(tmp_path: Path) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        raise AssertionError("it started")

    with pytest.raises(ValueError, match="CONTEXTUNE_STORE_URL"):
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
        ("POST", "/contexts", CONTEXT_EXAMPLE, "store_unavailable"),
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
    return Settings(data_dir=tmp_path, store_url=store_url, bus_url=bus_url)


def test_without_a_worker_a_context_is_refused_and_not_stored(settings: Settings) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        response = await http.post("/contexts", json=CONTEXT_EXAMPLE)
        async with asyncio.timeout(60):
            while response.json()["code"] == "bus_unavailable":
                response = await http.post("/contexts", json=CONTEXT_EXAMPLE)
        assert (response.status_code, response.json()["code"]) == (503, "no_worker")
        assert (await http.get("/contexts")).json() == {"object": "list", "data": [], "has_more": False, "next": None}
        model, alias = (await http.get("/models")).json()["data"]
        assert (alias["id"], alias["base_model"], alias["kind"]) == ("jev-latest", model["id"], "name")
        assert (model["workers"], model["parameters"]) == (0, None)

    ask(settings, scenario)


def test_context_for_an_unsupported_model_is_422_with_the_reason_and_not_stored(
    settings: Settings, bus_url: str
) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        with StandIn(bus_url) as worker:
            async with asyncio.timeout(60):
                while (await http.get("/health/ready")).json()["checks"]["models"][MODEL]["status"] != "unsupported":
                    await asyncio.to_thread(worker.refuse, "Gemma2Config: soft-capped attention is not supported.")
            response = await http.post("/contexts", json={**CONTEXT_EXAMPLE, "model": MODEL})
        problem = response.json()
        assert (response.status_code, problem["code"], problem["param"]) == (422, "model_unsupported", "/model")
        assert "soft-capped" in problem["detail"]
        assert (await http.get("/contexts")).json()["data"] == []

    ask(settings.model_copy(update={"models": (MODEL,)}), scenario)


def test_models_and_readiness_tell_the_devices_of_workers(settings: Settings, bus_url: str) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        with StandIn(bus_url) as worker:
            await asyncio.to_thread(worker.announce, device=DEVICE)
            async with asyncio.timeout(60):
                while not (model := (await http.get("/models")).json()["data"][0])["workers"]:
                    pass
            assert (model["device"], model["devices"]) == ("cuda:0", [DEVICE.model_dump()])
            state = (await http.get("/health/ready")).json()["checks"]["models"][MODEL]
            assert state["devices"] == [DEVICE.model_dump()]

    ask(settings.model_copy(update={"models": (MODEL,)}), scenario)


def test_gateway_is_ready_whatever_its_models_are(settings: Settings, bus_url: str) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        async def checks(first: str, second: str) -> int:
            async with asyncio.timeout(60):
                while True:
                    response = await http.get("/health/ready")
                    models = response.json()["checks"]["models"]
                    if (models[MODEL]["status"], models["other"]["status"]) == (first, second):
                        return response.status_code

        with StandIn(bus_url) as worker:
            await asyncio.to_thread(worker.refuse, "Gemma2Config: soft-capped attention is not supported.")
            assert await checks("unsupported", "no_worker") == 200
            await asyncio.to_thread(worker.announce, model="other")
            assert await checks("unsupported", "ready") == 200

    ask(settings.model_copy(update={"models": (MODEL, "other")}), scenario)


def test_list_that_cannot_go_on_is_422(settings: Settings) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        for path in ("/contexts", "/jobs"):
            response = await http.get(path, params={"after": "ctx_unknown"})
            assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
            assert response.json()["param"] == "/after"

    ask(settings, scenario)


def test_deadline_of_a_query_covers_a_store_that_is_silent(bus_url: str, tmp_path: Path) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        response = await http.post("/classify", json=CLASSIFY_EXAMPLE)
        assert (response.status_code, response.json()["code"]) == (504, "deadline_exceeded")

    path = tmp_path / "silent"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()  # takes connections, and never answers
        settings = Settings(data_dir=tmp_path, store_url=f"unix://{path}", bus_url=bus_url)
        ask(settings.model_copy(update={"auth": "off", "classify_timeout": 0.5}), scenario)


def ready_context(records: Records) -> str:
    """Id of a context that can answer, as far as its records say."""
    stored, _ = records.of("default").contexts.submit(submission())
    claim = records.claim([MODEL], "worker-1")
    assert claim
    assert records.finish_succeeded(claim, "address", Report(served="tuned"), {}) == "succeeded"
    return stored.context.id


def test_query_whose_client_hangs_up_is_given_up(settings: Settings, records: Records) -> None:
    body = json.dumps({"context": ready_context(records), "inputs": ["a fine film"]}).encode()

    async def scenario() -> list[int]:
        app, hung_up = create_app(settings), asyncio.Event()
        unread, answered = [{"type": "http.request", "body": body}], []

        async def receive() -> dict[str, Any]:
            if unread:
                return unread.pop()
            await hung_up.wait()
            return {"type": "http.disconnect"}

        async def send(message: MutableMapping[str, Any]) -> None:
            answered.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/classify",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json"), (b"host", b"localhost")],
        }
        async with app.router.lifespan_context(app), asyncio.timeout(60):
            with StandIn(settings.bus_url or "") as worker:
                worker.announce()
                await asyncio.to_thread(eventually, lambda: app.state.gateway.bus.live_workers(MODEL))
                asking = asyncio.create_task(app(scope, receive, send))
                await asyncio.to_thread(worker.take)
                assert not answered
                hung_up.set()
                await asking
        return [message["status"] for message in answered if "status" in message]

    assert asyncio.run(scenario()) == [499]


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
        ("patch", "/contexts/{ref}"),
        ("delete", "/contexts/{ref}"),
        ("get", "/contexts/{ref}/adapter"),
        ("post", "/contexts/import"),
        ("get", "/contexts/{ref}/examples"),
        ("get", "/jobs"),
        ("get", "/jobs/{job_id}"),
        ("delete", "/jobs/{job_id}"),
        ("get", "/jobs/{job_id}/events"),
        ("post", "/jobs/{job_id}/cancel"),
        ("post", "/classify"),
        ("post", "/batches"),
        ("get", "/batches"),
        ("get", "/batches/{batch_id}"),
        ("get", "/batches/{batch_id}/results"),
        ("get", "/batches/{batch_id}/errors"),
        ("post", "/webhooks"),
        ("get", "/webhooks"),
        ("delete", "/webhooks/{webhook_id}"),
        ("get", "/contexts/{name}/aliases/{alias}"),
        ("put", "/contexts/{name}/aliases/{alias}"),
        ("delete", "/contexts/{name}/aliases/{alias}"),
        ("post", "/v1/decisions"),
        ("post", "/v1/systemone"),
        ("post", "/compat/cohere/v1/classify"),
        ("get", "/compat/cohere/v1/models"),
        ("get", "/models"),
        ("get", "/models/{model}"),
        ("post", "/keys"),
        ("get", "/keys"),
        ("delete", "/keys/{key_id}"),
        ("get", "/tenants"),
        ("get", "/tenants/{tenant_id}"),
        ("patch", "/tenants/{tenant_id}"),
        ("delete", "/tenants/{tenant_id}"),
        ("get", "/audit"),
        ("get", "/usage"),
        ("get", "/health/live"),
        ("get", "/health/ready"),
        ("get", "/metrics"),
    }
    ids = [operation["operationId"] for item in description["paths"].values() for operation in item.values()]
    assert len(set(ids)) == len(ids)


def test_page_of_the_description_needs_no_internet(tmp_path: Path) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        page = (await http.get("/docs")).text
        assets = re.findall(r"""(?:src|href)=["']([^"']+)""", page)
        assert len(assets) == 3
        assert "://" not in page
        assert "'/openapi.json'" in page
        for path in (*assets, "/openapi.json"):
            assert (await http.get(path)).status_code == 200, path
        assert (await http.get("/docs/assets/none")).json()["code"] == "route_not_found"
        assert (await http.get("/redoc")).status_code == 404

    ask(settings_without_servers(tmp_path), scenario)


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
            form = "application/json" if "doors" in operation.get("tags", ()) else "application/problem+json"
            for status in problems - {"503"} if path == "/health/ready" else problems:
                assert list(operation["responses"][status]["content"]) == [form], (path, status)


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
    model = NewContext if path == "/contexts" else ClassifyRequest
    assert model.model_validate(body)


def test_bodies_of_the_description_bound_what_the_routes_bound(description: Any) -> None:
    schemas = description["components"]["schemas"]
    inputs = schemas["ClassifyRequest"]["properties"]["inputs"]
    assert (inputs["minItems"], inputs["maxItems"]) == (1, 1024)
    labels = schemas["NewContext"]["properties"]["labels"]["anyOf"][0]
    assert (labels["minItems"], labels["maxItems"]) == (2, 256)


def test_metadata_filters_are_described(description: Any) -> None:
    parameters = description["paths"]["/contexts"]["get"]["parameters"]
    (metadata,) = (one for one in parameters if one["name"] == "metadata")
    assert (metadata["in"], metadata["style"], metadata["explode"]) == ("query", "deepObject", True)
