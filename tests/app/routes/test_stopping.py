"""Requests that a stop cuts off while a thread stores what they create: all of it is there, or nothing."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.config import Settings
from app.contract.messages import PlanReply
from app.contract.names import artifact_url, plan_queue
from app.records.batches import Batches
from app.records.claims import BatchClaim, TuningClaim
from app.records.contexts import Contexts
from app.records.files import read_file
from app.records.store import Records
from app.routes.context_creation import EXAMPLE_BODY
from tests.app.gateway import ask, until_served
from tests.app.records.steps import succeed
from tests.app.standin import MODEL, StandIn
from tests.submissions import plan
from tests.waiting import eventually


@pytest.fixture
def settings(store_url: str, bus_url: str, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, store_url=store_url, bus_url=bus_url, models=(MODEL,))


class Held:
    """Holds up the threads that are about to store something, until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, what: type[Any]) -> None:
        self.reached, self.go = threading.Event(), threading.Event()
        submit = what.submit

        def later(*given: Any) -> Any:
            self.reached.set()
            assert self.go.wait(60)
            return submit(*given)

        monkeypatch.setattr(what, "submit", later)


async def cut_off(held: Held, request: asyncio.Task[httpx.Response]) -> None:
    assert await asyncio.to_thread(held.reached.wait, 60)
    request.cancel()
    answer = await request
    assert (answer.status_code, answer.json()["code"]) == (503, "shutting_down")
    held.go.set()


def test_context_that_is_stored_after_all_has_its_examples(
    settings: Settings, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch, Contexts)

    def answer_plan() -> None:
        request = worker.take(60, plan_queue)
        worker.say(request, PlanReply(id=request["id"], plan=plan()))

    async def scenario(http: httpx.AsyncClient) -> None:
        worker.announce()
        await until_served(http, MODEL)
        planning = asyncio.create_task(asyncio.to_thread(answer_plan))
        await cut_off(held, asyncio.create_task(http.post("/contexts", json=EXAMPLE_BODY)))
        await planning

    with StandIn(settings.bus_url or "") as worker:
        ask(settings, scenario)
    claimed = eventually(lambda: records.claim([MODEL], "worker-1"))
    assert isinstance(claimed, TuningClaim)
    spec = records.of("default").contexts.specs.get(claimed.context_id)
    assert spec
    assert len(spec.examples) == len(EXAMPLE_BODY["examples"])


def test_batch_that_is_stored_after_all_has_its_lines(
    settings: Settings, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    succeed(records, "intents")
    held = Held(monkeypatch, Batches)
    line = b'{"text": "my card never came"}\n'

    async def scenario(http: httpx.AsyncClient) -> None:
        headers = {"content-type": "application/jsonl"}
        await cut_off(held, asyncio.create_task(http.post("/batches?context=intents", content=line, headers=headers)))

    ask(settings, scenario)
    claimed = eventually(lambda: records.claim([MODEL], "worker-1"))
    assert isinstance(claimed, BatchClaim)
    assert read_file(artifact_url(settings.artifacts_url, claimed.input)) == line
