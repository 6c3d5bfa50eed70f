"""Contexts and jobs over HTTP, with a stand-in for the worker."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.config import Settings
from app.contract.messages import PlanReply
from app.contract.names import artifact_url, plan_queue
from app.records.files import read_file
from app.records.idempotency import KeyClaim
from app.records.store import Records
from app.routes.context_creation import EXAMPLE_BODY as CONTEXT_EXAMPLE
from app.routes.context_creation import NewContext
from tests.app.gateway import ask, settings_without_servers
from tests.app.standin import MODEL, StandIn
from tests.submissions import EXAMPLES, plan, submission


@pytest.fixture
def settings(store_url: str, bus_url: str, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, store_url=store_url, bus_url=bus_url)


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


def answer_plans(worker: StandIn, count: int) -> list[str]:
    """Answer so many plans; returns the addresses of their specs."""
    addresses = []
    for _ in range(count):
        request = worker.take(of=plan_queue)
        addresses.append(request["spec"])
        worker.say(request, PlanReply(id=request["id"], plan=plan()))
    return addresses


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
        spec = records.of("default").contexts.specs.get(created.json()["context"]["id"])
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
            async with asyncio.timeout(60):
                while response.status_code == 503:  # the bus is not connected yet, or the worker not seen
                    response = await http.post("/contexts", params={"dry_run": "true"}, json=body)
            (address,) = await answers
        assert response.status_code == 200
        with pytest.raises(FileNotFoundError):
            read_file(artifact_url(settings.artifacts_url, address))
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
