"""The gateway as an application, with servers or without, but with no worker."""

import asyncio
import gzip
import json
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.config import Settings
from app.contract.messages import DeviceState, PlanReply
from app.contract.names import ErrorCode, plan_queue
from app.contract.objects import Report
from app.main import create_app
from app.records.idempotency import KeyClaim
from app.records.store import Records
from app.routes.classify import EXAMPLE_BODY as CLASSIFY_EXAMPLE
from app.routes.classify import ClassifyRequest
from app.routes.context_creation import EXAMPLE_BODY as CONTEXT_EXAMPLE
from app.routes.context_creation import NewContext
from tests.app.standin import MODEL, StandIn
from tests.submissions import EXAMPLES, plan, submission
from tests.waiting import eventually

POST_BODIES: list[tuple[str, dict[str, Any]]] = [
    ("/contexts", CONTEXT_EXAMPLE),
    ("/classify", CLASSIFY_EXAMPLE),
]


DEVICE = DeviceState(id="cuda:0", name="NVIDIA H100", total_bytes=80 * 10**9, free_bytes=70 * 10**9)


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
                transport=transport, base_url="http://127.0.0.1", timeout=60, event_hooks={"request": [take_turns]}
            ) as http,
        ):
            await scenario(http)

    asyncio.run(whole())


def settings_without_servers(folder: Path) -> Settings:
    """Without the store nobody is known, so that only a service without keys gets to anything else."""
    store, bus = f"unix://{folder}/no-store", f"unix://{folder}/no-bus"
    return Settings(data_dir=folder, store_url=store, bus_url=bus, auth="off")


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
        model, alias = (await http.get("/models")).json()["data"]
        assert (alias["id"], alias["base_model"], alias["kind"]) == ("jev-latest", model["id"], "name")
        assert (model["workers"], model["parameters"]) == (0, None)

    ask(settings, scenario)


def test_context_for_an_unsupported_model_is_422_with_the_reason_and_not_stored(
    settings: Settings, bus_url: str
) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        with StandIn(bus_url) as worker:
            async with asyncio.timeout(20):
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
            async with asyncio.timeout(20):
                while not (model := (await http.get("/models")).json()["data"][0])["workers"]:
                    pass
            assert (model["device"], model["devices"]) == ("cuda:0", [DEVICE.model_dump()])
            state = (await http.get("/health/ready")).json()["checks"]["models"][MODEL]
            assert state["devices"] == [DEVICE.model_dump()]

    ask(settings.model_copy(update={"models": (MODEL,)}), scenario)


def test_gateway_is_ready_whatever_its_models_are(settings: Settings, bus_url: str) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        async def checks(first: str, second: str) -> int:
            async with asyncio.timeout(20):
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


# -- what every request passes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/contexts", "/v1/contexts", "/nowhere", "/docs", "/openapi.json", "/contexts/"])
def test_another_name_of_the_service_is_refused(tmp_path: Path, path: str) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        response = await http.get(path, headers={"host": "evil.example"})
        assert (response.status_code, response.json()["code"]) == (421, "host_not_allowed")

    ask(settings_without_servers(tmp_path), scenario)


def test_slash_at_the_end_leads_nowhere(tmp_path: Path) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        for host in ("127.0.0.1", "localhost"):
            response = await http.get("/contexts/", headers={"host": host})
            assert (response.status_code, response.json()["code"]) == (404, "route_not_found")
            assert "location" not in response.headers

    ask(settings_without_servers(tmp_path), scenario)


@pytest.mark.parametrize("path", ["/jobs/job_1/cancel", "/v1/jobs/job_1/cancel", "/contexts?dry_run=true"])
@pytest.mark.parametrize("headers", [{"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}])
def test_page_of_another_site_changes_nothing(tmp_path: Path, path: str, headers: dict[str, str]) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        response = await http.post(path, headers=headers)
        assert (response.status_code, response.json()["code"]) == (403, "origin_not_allowed")

    ask(settings_without_servers(tmp_path), scenario)


def test_allowed_origin_may_send_json(tmp_path: Path) -> None:
    settings = settings_without_servers(tmp_path).model_copy(update={"allowed_origins": ("https://app.example",)})

    async def scenario(http: httpx.AsyncClient) -> None:
        headers = {"origin": "https://app.example", "access-control-request-method": "POST"}
        allowed = await http.options("/classify", headers={**headers, "access-control-request-headers": "content-type"})
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == "https://app.example"
        assert "POST" in allowed.headers["access-control-allow-methods"]

    ask(settings, scenario)


@pytest.mark.parametrize(
    ("method", "path", "param"),
    [
        ("POST", "/contexts?dryrun=true", "/dryrun"),
        ("POST", "/v1/contexts?dryrun=true", "/dryrun"),
        ("POST", "/classify?top_k=1", "/top_k"),
        ("GET", "/contexts?Limit=3", "/Limit"),
        ("GET", "/contexts?meta[team]=cards", "/meta[team]"),
        ("GET", "/contexts?metadata[]=cards", "/metadata[]"),
        ("GET", "/contexts?metadata=cards", "/metadata"),
        ("GET", "/contexts?limit=3&limit=4", "/limit"),
        ("GET", "/jobs?metadata[team]=cards", "/metadata[team]"),
        ("GET", "/jobs/job_1?waits=3", "/waits"),
        ("POST", "/jobs/job_1/cancel?force=true", "/force"),
        ("DELETE", "/contexts/ctx_1?force=true", "/force"),
        ("GET", "/models?limit=3", "/limit"),
        ("GET", "/health/ready?x", "/x"),
    ],
)
def test_unknown_query_parameter_is_refused(tmp_path: Path, method: str, path: str, param: str) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        response = await http.request(method, path)
        assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
        assert response.json()["param"] == param

    ask(settings_without_servers(tmp_path), scenario)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/contexts", {"GET", "POST"}),
        ("/v1/contexts", {"GET", "POST"}),
        ("/contexts/ctx_1", {"GET", "PATCH", "DELETE"}),
        ("/jobs/job_1", {"GET", "DELETE"}),
        ("/jobs/job_1/cancel", {"POST"}),
        ("/health/live", {"GET"}),
        ("/openapi.json", {"GET", "HEAD"}),
        ("/docs/assets/swagger-ui.css", {"GET", "HEAD"}),
    ],
)
def test_refused_method_is_told_all_that_are_allowed(tmp_path: Path, path: str, allowed: set[str]) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        response = await http.put(path)
        assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
        assert set(response.headers["allow"].split(", ")) == allowed

    ask(settings_without_servers(tmp_path), scenario)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"min_confidence": False}, "/min_confidence"),
        ({"min_confidence": "0.5"}, "/min_confidence"),
        ({"batch_calibration": 1}, "/batch_calibration"),
        ({"exact": "true"}, "/exact"),
        ({"top_k": 0}, "/top_k"),
        ({"top_k": True}, "/top_k"),
        ({"batch_calibration": "true"}, "/batch_calibration"),
        ({"inputs": "text"}, "/inputs"),
        ({"context": 7}, "/context"),
    ],
)
def test_value_of_another_json_type_is_refused(tmp_path: Path, value: dict[str, Any], field: str) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        response = await http.post("/classify", json={**CLASSIFY_EXAMPLE, **value})
        assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
        assert response.json()["param"] == field

    ask(settings_without_servers(tmp_path), scenario)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip"])
def test_compressed_body_is_read(tmp_path: Path, encoding: str) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        async def post(content: bytes, encoding: str = encoding) -> tuple[int, str]:
            headers = {"content-type": "application/json", "content-encoding": encoding}
            response = await http.post("/classify", content=content, headers=headers)
            return response.status_code, response.json()["code"]

        whole = gzip.compress(json.dumps(CLASSIFY_EXAMPLE).encode())
        assert await post(whole) == (503, "store_unavailable")
        assert await post(whole[:-9]) == (400, "malformed_request")
        assert await post(b"no gzip") == (400, "malformed_request")
        assert await post(gzip.compress(b" " * (8 * 1024 * 1024 + 1))) == (413, "body_too_large")
        assert await post(whole, "br") == (415, "unsupported_media_type")

    ask(settings_without_servers(tmp_path), scenario)


@pytest.mark.parametrize("path", ["/v1/contexts", "/v1/jobs", "/v1/contexts/intents", "/v1/jobs/job_1"])
def test_every_route_of_an_object_is_also_under_v1(tmp_path: Path, path: str) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        assert (await http.get(path)).json()["code"] == "store_unavailable"

    ask(settings_without_servers(tmp_path), scenario)


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


def test_context_is_deleted_by_its_id_alone_and_as_often_as_one_likes(settings: Settings, records: Records) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        context, job = records.of("default").contexts.submit(submission("intents"))
        for ref in ("intents", "intents@1", "ctx_", "ctx_%20"):
            response = await http.delete(f"/contexts/{ref}")
            assert (response.status_code, response.json()["param"]) == (422, "/ref")
        for _ in range(2):
            assert (await http.delete(f"/contexts/{context.context.id}")).status_code == 204
        assert (await http.get(f"/contexts/{context.context.id}")).status_code == 404
        assert (await http.get(f"/jobs/{job.id}")).json()["status"] == "cancelled"

    ask(settings, scenario)


def test_job_is_deleted_once_it_has_ended(settings: Settings, records: Records) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        _, job = records.of("default").contexts.submit(submission("intents"))
        response = await http.delete(f"/jobs/{job.id}")
        assert (response.status_code, response.json()["code"]) == (409, "job_not_terminal")
        assert (await http.post(f"/jobs/{job.id}/cancel")).status_code == 200
        for _ in range(2):
            assert (await http.delete(f"/jobs/{job.id}")).status_code == 204
        assert (await http.get(f"/jobs/{job.id}")).status_code == 404
        assert (await http.get("/contexts/intents")).json()["status"] == "cancelled"
        assert (await http.delete("/jobs/intents")).status_code == 422

    ask(settings, scenario)


def test_metadata_is_changed_key_by_key(settings: Settings, records: Records) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        stored, _ = records.of("default").contexts.submit(submission("intents", metadata={"team": "cards", "old": "1"}))
        path = f"/contexts/{stored.context.id}"
        response = await http.patch(path, json={"metadata": {"team": "loans", "old": None, "new": ""}})
        assert (response.status_code, response.json()["metadata"]) == (200, {"team": "loans", "new": ""})
        assert len((await http.get("/contexts", params={"metadata[team]": "loans"})).json()["data"]) == 1
        assert (await http.get("/contexts", params={"metadata[team]": "cards"})).json()["data"] == []
        for where, body, status, param in (
            (path, {"metadata": {str(n): "" for n in range(17)}}, 422, "/metadata"),
            (path, {"metadata": {"team": 7}}, 422, "/metadata/team"),
            (path, {"name": "other"}, 422, "/metadata"),
            ("/contexts/intents", {"metadata": {}}, 422, "/ref"),
            ("/contexts/ctx_unknown", {"metadata": {}}, 404, None),
        ):
            response = await http.patch(where, json=body)
            assert (response.status_code, response.json()["param"]) == (status, param)

    ask(settings, scenario)


def test_examples_are_read_back_page_by_page(settings: Settings, records: Records) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        records.of("default").contexts.submit(submission("intents"))
        read: list[Any] = []
        query: dict[str, Any] = {"limit": 3}
        while query:
            page = (await http.get("/contexts/intents/examples", params=query)).json()
            read += page["data"]
            query = {"limit": 3, "after": page["next"]} if page["has_more"] else {}
        assert read == [example.model_dump() for example in EXAMPLES]
        assert (await http.get("/contexts/unknown/examples")).status_code == 404

    ask(settings, scenario)


def answer_plans(worker: StandIn, count: int) -> None:
    for _ in range(count):
        request = worker.take(of=plan_queue)
        worker.say(request, PlanReply(id=request["id"], plan=plan()))


async def posted(http: httpx.AsyncClient, worker: StandIn, body: dict[str, Any], **headers: str) -> httpx.Response:
    """The answer to a new context, planned by the stand-in for a worker."""
    worker.announce()
    answers = asyncio.create_task(asyncio.to_thread(answer_plans, worker, 1))
    while True:
        response = await http.post("/contexts", json=body, headers=headers)
        if response.status_code != 503:  # the bus is not connected yet, or the worker not seen
            break
    await answers
    return response


def test_context_of_many_megabytes_is_taken_and_lies_in_a_file_meanwhile(settings: Settings, records: Records) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        async def chunks(content: bytes) -> AsyncIterator[bytes]:
            for start in range(0, len(content), 1 << 20):
                yield content[start : start + (1 << 20)]

        texts = [f"{number} " + "x" * 99_000 for number in range(100)]
        body = json.dumps({**CONTEXT_EXAMPLE, "calibration_texts": texts}).encode()
        assert len(body) > 8 * 1024 * 1024
        headers = {"content-type": "application/json"}
        wrong = body.replace(b"cpt", b"ctp")
        for path, content, status, param in (
            ("/contexts", wrong, 422, "/hyperparameters/method"),
            ("/contexts", chunks(wrong), 422, "/hyperparameters/method"),
            ("/v1/contexts", gzip.compress(wrong), 422, "/hyperparameters/method"),
            ("/contexts", body[:-1], 400, None),
            ("/contexts", b" " * (64 * 1024 * 1024 + 1), 413, None),
            ("/contexts", gzip.compress(b" " * (64 * 1024 * 1024 + 1)), 413, None),
            ("/classify", chunks(body), 413, None),
        ):
            encoding = {"content-encoding": "gzip"} if isinstance(content, bytes) and content[:1] == b"\x1f" else {}
            response = await http.post(path, content=content, headers=headers | encoding)
            assert (response.status_code, response.json()["param"]) == (status, param)
        uploads = settings.data_dir / "artifacts" / "uploads"
        assert uploads.is_dir()
        assert not list(uploads.iterdir())
        with StandIn(settings.bus_url or "") as worker:
            created = await posted(http, worker, json.loads(body))
        assert created.status_code == 202
        spec = records.of("default").contexts.spec(created.json()["context"]["id"])
        assert spec
        assert len(spec.calibration_texts) == 100

    ask(settings.model_copy(update={"models": (MODEL,)}), scenario)


def test_request_that_is_sent_again_creates_once(settings: Settings, records: Records) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        key = {"idempotency-key": "my-key"}
        with StandIn(settings.bus_url or "") as worker:
            first = await posted(http, worker, CONTEXT_EXAMPLE, **key)
        again = await http.post("/contexts", json=dict(reversed(CONTEXT_EXAMPLE.items())), headers=key)
        assert (first.status_code, again.status_code) == (202, 202)
        assert again.headers["location"] == first.headers["location"] == f"/jobs/{first.json()['job']['id']}"
        assert again.json()["context"]["id"] == first.json()["context"]["id"]
        assert len((await http.get("/contexts")).json()["data"]) == 1

        other = await http.post("/contexts", json={**CONTEXT_EXAMPLE, "name": "other"}, headers=key)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")

        job_id = first.json()["job"]["id"]
        await http.post(f"/jobs/{job_id}/cancel")
        await http.delete(f"/jobs/{job_id}")
        assert (await http.post("/contexts", json=CONTEXT_EXAMPLE, headers=key)).json()["job"] is None
        await http.delete(f"/contexts/{first.json()['context']['id']}")
        gone = await http.post("/contexts", json=CONTEXT_EXAMPLE, headers=key)
        assert (gone.status_code, gone.json()["code"]) == (410, "deleted")

    ask(settings.model_copy(update={"models": (MODEL,)}), scenario)


def test_key_of_a_request_at_work_is_not_taken_and_one_that_failed_leaves_it(
    settings: Settings, records: Records
) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        key = {"idempotency-key": "my-key"}
        claim = records.of("default").idempotency.begin("my-key", "POST /contexts")
        busy = await http.post("/contexts", json=CONTEXT_EXAMPLE, headers=key)
        assert (busy.status_code, busy.json()["code"]) == (409, "idempotency_in_progress")
        assert busy.headers["retry-after"] == "1"
        assert isinstance(claim, KeyClaim)
        records.of("default").idempotency.give_up(claim)
        for _ in range(2):
            failed = await http.post("/contexts", json={**CONTEXT_EXAMPLE, "model": "none"}, headers=key)
            assert (failed.status_code, failed.json()["code"]) == (422, "model_unknown")
        refused = await http.post("/contexts", json=CONTEXT_EXAMPLE, headers={"idempotency-key": "with space"})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")

    ask(settings, scenario)


def test_context_is_retuned_from_an_earlier_one(settings: Settings, records: Records) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        records.of("default").contexts.submit(submission("intents", metadata={"team": "cards"}))
        body = {"base_context": "intents", "examples": [{"text": "fine", "label": "good"}]}
        with StandIn(settings.bus_url or "") as worker:
            created = await posted(http, worker, body)
        assert created.status_code == 202
        context = created.json()["context"]
        assert (context["name"], context["version"], context["metadata"]) == ("intents", 2, {"team": "cards"})
        examples = (await http.get(f"/contexts/{context['id']}/examples")).json()["data"]
        assert examples == [*(example.model_dump() for example in EXAMPLES), *body["examples"]]
        unknown = await http.post("/contexts", json={**body, "base_context": "unknown"})
        assert (unknown.status_code, unknown.json()["code"]) == (404, "context_not_found")
        for wrong, param in (
            ({}, "/examples"),
            ({**CONTEXT_EXAMPLE, "remove_examples": ["/examples/0"]}, "/remove_examples"),
        ):
            response = await http.post("/contexts", json=wrong)
            assert (response.status_code, response.json()["param"]) == (422, param)

    ask(settings.model_copy(update={"models": (MODEL,)}), scenario)


def test_dry_run_says_what_a_context_needs_and_stores_nothing(settings: Settings) -> None:
    examples = NewContext.model_validate(CONTEXT_EXAMPLE).examples
    body = {**CONTEXT_EXAMPLE, "examples": [example.model_dump() for example in (*examples, examples[0])]}

    async def scenario(http: httpx.AsyncClient) -> None:
        with StandIn(settings.bus_url or "") as worker:
            worker.announce()
            answers = asyncio.create_task(asyncio.to_thread(answer_plans, worker, 1))
            response = await http.post("/contexts", params={"dry_run": "true"}, json=body)
            async with asyncio.timeout(20):
                while response.status_code == 503:  # the bus is not connected yet, or the worker not seen
                    response = await http.post("/contexts", params={"dry_run": "true"}, json=body)
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
            "headers": [(b"content-type", b"application/json"), (b"host", b"localhost")],
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
