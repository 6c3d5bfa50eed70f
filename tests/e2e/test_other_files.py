"""Two workers of one model that have other files of it: each context is answered by the worker that has its files."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from contextune import Contextune

from app.standalone.embedded import EmbeddedServer
from tests.e2e.programs import Program
from tests.e2e.service import EXAMPLES, TEXTS, TINY, assert_problem
from tests.ports import free_port
from tests.waiting import eventually
from tests.worker.tiny import causal_model, tokenizer


class Upgraded:
    """A gateway, and a worker for each of two releases of a model, which `start` starts."""

    def __init__(self, folder: Path, store: EmbeddedServer, bus: EmbeddedServer) -> None:
        self._folder = folder
        self._shared = {
            "CONTEXTUNE_DATA_DIR": str(folder),
            "CONTEXTUNE_STORE_URL": store.url,
            "CONTEXTUNE_BUS_URL": bus.url,
            "CONTEXTUNE_ENCODER": "none",
            "CONTEXTUNE_AUTH": "off",
            "OMP_NUM_THREADS": "1",
        }
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.programs = [Program("app.main", folder / "gateway.log", CONTEXTUNE_PORT=str(port), **self._of(0))]
        self.client = httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def _of(self, release: int) -> dict[str, str]:
        model = {"path": str(self._folder / f"tiny-{release}"), "device": "cpu"}
        return self._shared | {"CONTEXTUNE_MODELS": json.dumps({TINY: model})}

    def start(self, release: int) -> Program:
        """A worker with the model's files of a release, once the gateway sees it."""
        causal_model(seed=release).save_pretrained(self._folder / f"tiny-{release}")
        tokenizer().save_pretrained(self._folder / f"tiny-{release}")
        before = self.workers() or 0
        program = Program("worker", self._folder / f"worker-{release}.log", **self._of(release))
        self.programs.append(program)
        eventually(lambda: self.workers() == before + 1, 240)
        return program

    def workers(self) -> int | None:
        """How many workers the gateway sees; None before it answers."""
        try:
            return int(self.client.get("/health/ready").json()["checks"]["models"][TINY]["workers"])
        except httpx.TransportError:
            return None

    def tuned(self, name: str) -> str:
        with Contextune(self.url) as client:
            job = client.contexts.create(name=name, examples=EXAMPLES, hyperparameters={"method": "icl"}).job
            assert job
            job.wait(timeout=120)
        return f"{name}@1"

    def classify(self, context: str) -> httpx.Response:
        return self.client.post("/classify", json={"context": context, "inputs": TEXTS})


@pytest.fixture
def upgraded(tmp_path: Path) -> Iterator[Upgraded]:
    store, bus = EmbeddedServer.store(tmp_path), EmbeddedServer.bus(tmp_path)
    for server in (store, bus):
        server.start()
        eventually(server.answers)
    service = Upgraded(tmp_path, store, bus)
    try:
        yield service
    finally:
        service.client.close()
        for program in service.programs:
            program.kill()
        for server in (store, bus):
            server.stop()


def test_context_is_answered_by_the_worker_that_has_its_files(upgraded: Upgraded) -> None:
    old = upgraded.start(0)
    first = upgraded.tuned("old")
    expected = upgraded.classify(first).json()["classifications"]
    upgraded.start(1)
    answers = [upgraded.classify(first) for _ in range(12)]
    assert {answer.status_code for answer in answers} == {200}
    assert all(answer.json()["classifications"] == expected for answer in answers)
    old.kill()
    eventually(lambda: upgraded.workers() == 1, 60)
    assert_problem(upgraded.classify(first), 409, "model_changed")
    second = upgraded.tuned("new")
    assert upgraded.classify(second).status_code == 200
