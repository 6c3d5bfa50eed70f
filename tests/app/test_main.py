"""The gateway as an application, with servers or without, but with no worker."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FuturesTimeoutError
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.config import Settings
from app.contract.messages import PlanReply
from app.contract.names import ErrorCode, plan_queue
from app.contract.objects import Report
from app.main import create_app
from app.records.store import Records
from app.routes.classify import EXAMPLE_BODY as CLASSIFY_EXAMPLE
from app.routes.classify import ClassifyRequest
from app.routes.contexts import EXAMPLE_BODY as CONTEXT_EXAMPLE
from app.routes.contexts import NewContext
from tests.app.standin import MODEL, StandIn
from tests.submissions import plan, submission
from tests.waiting import eventually

POST_BODIES: list[tuple[str, dict[str, Any]]] = [
    ("/contexts", CONTEXT_EXAMPLE),
    ("/classify", CLASSIFY_EXAMPLE),
]


async def take_turns(_: httpx.Request) -> None:
    """Let the gateway's other tasks run, as a socket would: a request need not wait for anything else."""
    await asyncio.sleep(0.01)


def ask(settings: Settings, scenario: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    """Run a scenario against a started gateway."""

    async def whole() -> None:
        app = create_app(settings)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(
                transport=transport, base_url="http://test", timeout=60, event_hooks={"request": [take_turns]}
            ) as http,
        ):
            await scenario(http)

    asyncio.run(whole())


def settings_without_servers(folder: Path) -> Settings:
    return Settings(data_dir=folder, store_url=f"unix://{folder}/no-store", bus_url=f"unix://{folder}/no-bus")


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
    return Settings(data_dir=tmp_path, store_url=store_url, bus_url=bus_url)


def test_without_a_worker_a_context_is_refused_and_not_stored(settings: Settings) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        response = await http.post("/contexts", json=CONTEXT_EXAMPLE)
        async with asyncio.timeout(20):
            while response.json()["code"] == "bus_unavailable":
                response = await http.post("/contexts", json=CONTEXT_EXAMPLE)
        assert (response.status_code, response.json()["code"]) == (503, "no_worker")
        assert (await http.get("/contexts")).json() == {"object": "list", "data": [], "has_more": False, "next": None}
        (model,) = (await http.get("/models")).json()["data"]
        assert (model["workers"], model["parameters"]) == (0, None)

    ask(settings, scenario)


def test_context_for_an_unsupported_model_is_422_with_the_reason_and_not_stored(
    settings: Settings, bus_url: str
) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        with StandIn(bus_url) as worker:
            async with asyncio.timeout(20):
                while (await http.get("/health/ready")).json()["checks"]["models"][MODEL]["status"] != "unsupported":
                    await asyncio.to_thread(worker.refuse, "MistralConfig: sliding window attention is not supported.")
            response = await http.post("/contexts", json={**CONTEXT_EXAMPLE, "model": MODEL})
        problem = response.json()
        assert (response.status_code, problem["code"], problem["param"]) == (422, "model_unsupported", "/model")
        assert "sliding window" in problem["detail"]
        assert (await http.get("/contexts")).json()["data"] == []

    ask(settings.model_copy(update={"models": (MODEL,)}), scenario)


def test_unsupported_model_keeps_no_other_from_being_ready(settings: Settings, bus_url: str) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        async def checks(first: str, second: str) -> int:
            async with asyncio.timeout(20):
                while True:
                    response = await http.get("/health/ready")
                    models = response.json()["checks"]["models"]
                    if (models[MODEL]["status"], models["other"]["status"]) == (first, second):
                        return response.status_code

        with StandIn(bus_url) as worker:
            await asyncio.to_thread(worker.refuse, "MistralConfig: sliding window attention is not supported.")
            assert await checks("unsupported", "no_worker") == 503
            await asyncio.to_thread(worker.announce, model="other")
            assert await checks("unsupported", "ready") == 200
            await asyncio.to_thread(worker.refuse, "GemmaConfig: no.", model="other")
            assert await checks("unsupported", "unsupported") == 503

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
        ask(Settings(data_dir=tmp_path, store_url=f"unix://{path}", bus_url=bus_url, classify_timeout=0.5), scenario)


def test_context_is_not_deleted_by_its_name(settings: Settings, records: Records) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        context, _ = records.of("default").contexts.submit(submission("intents"))
        for ref in ("intents", "intents@1"):
            response = await http.delete(f"/contexts/{ref}")
            assert (response.status_code, response.json()["code"]) == (404, "context_not_found")
        assert (await http.delete(f"/contexts/{context.context.id}")).status_code == 204

    ask(settings, scenario)


def answer_plans(worker: StandIn, count: int) -> None:
    for _ in range(count):
        request = worker.take(of=plan_queue)
        worker.say(request, PlanReply(id=request["id"], plan=plan()))


def test_dry_run_says_what_a_context_needs_and_stores_nothing(settings: Settings) -> None:
    examples = NewContext.model_validate(CONTEXT_EXAMPLE).examples
    body = {**CONTEXT_EXAMPLE, "examples": [example.model_dump() for example in (*examples, examples[0])]}

    async def scenario(http: httpx.AsyncClient) -> None:
        with StandIn(settings.bus_url or "") as worker:
            worker.announce()
            answers = asyncio.create_task(asyncio.to_thread(answer_plans, worker, 1))
            response = await http.post("/contexts", params={"dry_run": "true", "other": "7"}, json=body)
            async with asyncio.timeout(20):
                while response.status_code == 503:  # the bus is not connected yet, or the worker not seen
                    response = await http.post("/contexts", params={"dry_run": "true", "other": "7"}, json=body)
            await answers
        assert response.status_code == 200
        needed = response.json()
        (warning,) = needed.pop("warnings")
        assert (warning["code"], warning["param"]) == ("duplicate_examples", "/examples/4")
        assert needed == {"object": "dry_run", "model": MODEL, **plan().model_dump(mode="json")}
        for path in ("/contexts", "/jobs"):
            assert (await http.get(path)).json()["data"] == []

    ask(settings.model_copy(update={"models": (MODEL,)}), scenario)


def test_dry_run_is_true_or_false(tmp_path: Path) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        response = await http.post("/contexts", params={"dry_run": "perhaps"}, json=CONTEXT_EXAMPLE)
        assert (response.status_code, response.json()["param"]) == (422, "/dry_run")

    ask(settings_without_servers(tmp_path), scenario)


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
            "headers": [(b"content-type", b"application/json")],
        }
        async with app.router.lifespan_context(app), asyncio.timeout(20):
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


# -- the process ------------------------------------------------------------------------------------------------------


@contextmanager
def gateway_process(settings: Settings) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A gateway of its own that lives, and its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "CONTEXTUNE_STORE_URL": settings.store_url or "",
        "CONTEXTUNE_BUS_URL": settings.bus_url or "",
        "CONTEXTUNE_DATA_DIR": str(settings.data_dir),
        "CONTEXTUNE_PORT": str(port),
    }

    def lives() -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"http://127.0.0.1:{port}/health/live").is_success
        return False

    with subprocess.Popen([sys.executable, "-m", "app.main"], env=environment) as process:
        try:
            eventually(lives)
            yield process, port
        finally:
            process.kill()


def test_request_that_waits_is_answered_when_the_gateway_stops(settings: Settings, records: Records) -> None:
    _, job = records.of("default").contexts.submit(submission())
    with (
        gateway_process(settings) as (process, port),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http,
        ThreadPoolExecutor() as threads,
    ):
        waiting = threads.submit(http.get, f"/jobs/{job.id}", params={"wait": 60})
        with suppress(FuturesTimeoutError):
            waiting.result(1)
        assert not waiting.done()
        process.send_signal(signal.SIGTERM)
        response = waiting.result(60)
        assert (response.status_code, response.json()["status"]) == (200, "queued")
        assert process.wait(30) in (0, -signal.SIGTERM)


def test_connection_that_was_idle_for_a_while_is_still_good(settings: Settings) -> None:
    """Clients keep connections for some seconds; a server that closes first makes their next request fail."""
    with gateway_process(settings) as (_, port), closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        for pause in (0, 6):
            time.sleep(pause)
            connection.request("GET", "/health/live")
            response = connection.getresponse()
            assert (response.status, json.loads(response.read())) == (200, {"status": "ok"})


def test_body_of_a_request_that_offers_another_protocol_is_read(
    settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    """As Java's HttpClient sends it: the offer of HTTP/2 may be passed over (RFC 9110, 7.8), the body may not."""
    body = json.dumps(CLASSIFY_EXAMPLE)
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAEAAEAAAAIAAAAB"}
    with gateway_process(settings) as (_, port), closing(HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("POST", "/classify", body, {"Content-Type": "application/json", **offer})
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())["code"]) == (404, "context_not_found")
    logged = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert not [entry for entry in logged if entry["level"] == "warning"]
    assert "/classify" in [entry.get("path") for entry in logged]


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
        ("delete", "/contexts/{ref}"),
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
    model = NewContext if path == "/contexts" else ClassifyRequest
    assert model.model_validate(body)
