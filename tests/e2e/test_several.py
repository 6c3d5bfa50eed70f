"""Two gateways and two workers on one store and bus, the clock of one worker a minute ahead: each of them is killed."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from contextune import Contextune

from app.standalone.embedded import EmbeddedServer
from tests.e2e.programs import Program
from tests.e2e.service import EXAMPLES, TEXTS, TINY, same
from tests.e2e.trace_receiver import TraceReceiver, trace_receiver
from tests.ports import free_port
from tests.waiting import eventually
from tests.worker.tiny import causal_model, tokenizer

TUNING = {"method": "cpt", "steps": 150, "seed": 3}
AHEAD = """
import time
for name, ahead in (("time", 60), ("time_ns", 60 * 10**9)):
    setattr(time, name, lambda real=getattr(time, name), ahead=ahead: real() + ahead)
"""


class Several:
    """Two gateways, two workers, and a client of each gateway."""

    def __init__(self, folder: Path, store: EmbeddedServer, bus: EmbeddedServer, traces: TraceReceiver) -> None:
        causal_model().save_pretrained(folder / "tiny")
        tokenizer().save_pretrained(folder / "tiny")
        (folder / "ahead").mkdir()
        (folder / "ahead" / "sitecustomize.py").write_text(AHEAD)
        self._folder = folder
        self.servers = (store, bus)
        self.traces = traces
        self._shared = {
            "CONTEXTUNE_DATA_DIR": str(folder),
            "CONTEXTUNE_STORE_URL": store.url,
            "CONTEXTUNE_BUS_URL": bus.url,
            "CONTEXTUNE_MODELS": json.dumps({TINY: {"path": str(folder / "tiny"), "device": "cpu"}}),
            "CONTEXTUNE_ENCODER": "none",
            "CONTEXTUNE_CHECKPOINT_SECONDS": "0.2",
            "OMP_NUM_THREADS": "1",
            "OTEL_EXPORTER_OTLP_ENDPOINT": traces.url,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }
        self.workers = [self._program("worker", "on-time"), self._program("worker", "ahead", "ahead")]
        ports = [free_port() for _ in range(2)]
        self.gateways = [self._program("app.main", f"gateway-{port}", CONTEXTUNE_PORT=str(port)) for port in ports]
        self.clients = [
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=90, trust_env=False) for port in ports
        ]

    def _program(self, module: str, name: str, packages: str = "none", **environment: str) -> Program:
        path = {"PYTHONPATH": str(self._folder / packages)}
        return Program(module, self._folder / f"{name}.log", **self._shared, **environment, **path)

    def wait(self, client: httpx.Client, workers: int = 2) -> None:
        """Return once a gateway sees so many workers, and no others."""

        def look() -> bool:
            try:
                models = client.get("/health/ready").json()["checks"]["models"]
            except httpx.TransportError:
                return False
            return cast("bool", models[TINY]["workers"] == workers)

        eventually(look, 240)

    def restart_all(self) -> None:
        """Kill every process there is, and start all again."""
        for program in (*self.gateways, *self.workers):
            program.kill()
        for server in self.servers:
            pid = server.pid
            assert pid
            os.kill(pid, signal.SIGKILL)
            server.stop()
            server.start()
            eventually(server.answers)
        for program in (*self.gateways, *self.workers):
            program.start_again()
        for client in self.clients:
            self.wait(client)

    def checkpoint(self, job_id: str) -> Path:
        """Where the checkpoint of a job lies."""
        return self._folder / "artifacts" / "checkpoints" / f"{job_id}.safetensors"

    def logged(self, name: str) -> list[dict[str, Any]]:
        """The lines of a worker or gateway."""
        lines = (self._folder / f"{name}.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def requests(self, request_id: str) -> list[dict[str, Any]]:
        """The lines of the first gateway about a request that was answered."""
        lines = self.logged(f"gateway-{self.clients[0].base_url.port}")
        return [one for one in lines if one.get("request_id") == request_id and one["event"] == "request"]

    def close(self) -> list[int]:
        for client in self.clients:
            client.close()
        return [program.stop() for program in (*self.gateways, *self.workers)]


@pytest.fixture(scope="module")
def traces() -> Iterator[TraceReceiver]:
    with trace_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory, traces: TraceReceiver) -> Iterator[Several]:
    folder = tmp_path_factory.mktemp("several")
    store, bus = EmbeddedServer.store(folder), EmbeddedServer.bus(folder)
    for server in (store, bus):
        server.start()
        eventually(server.answers)
    service = Several(folder, store, bus, traces)
    try:
        for client in service.clients:
            service.wait(client)
        yield service
        assert service.close() == [0, 0, 0, 0]
    finally:
        for program in (*service.gateways, *service.workers):
            program.kill()
        for server in (store, bus):
            server.stop()


def post(client: httpx.Client) -> tuple[str, str]:
    """Ids of a new context and of its job."""
    response = client.post("/contexts", json={"examples": EXAMPLES, "hyperparameters": TUNING})
    assert response.status_code == 202, response.text
    return response.json()["context"]["id"], response.json()["job"]["id"]


def job(client: httpx.Client, job_id: str, wait: float = 0) -> dict[str, Any]:
    return cast("dict[str, Any]", client.get(f"/jobs/{job_id}", params={"wait": wait}).json())


def ended(client: httpx.Client, job_id: str) -> dict[str, Any]:
    return eventually(lambda: (found := job(client, job_id, wait=20))["terminal"] and found, 120)


def confidences(client: httpx.Client, context_id: str, times: int = 1) -> list[float]:
    response = client.post("/classify", json={"context": context_id, "inputs": TEXTS * times})
    assert response.status_code == 200, response.text
    return read(response.json())


def read(answer: dict[str, Any]) -> list[float]:
    """Confidence of each label in each input, one after the other."""
    return [label["confidence"] for one in answer["classifications"] for label in one["labels"].values()]


@pytest.fixture(scope="module")
def unbroken(several: Several) -> str:
    """Id of the context that `TUNING` makes when nothing happens."""
    context_id, job_id = post(several.clients[0])
    assert ended(several.clients[1], job_id)["status"] == "succeeded"
    return context_id


def test_what_one_gateway_was_given_the_other_answers_for(several: Several, unbroken: str) -> None:
    answers = [confidences(client, unbroken) for client in several.clients for _ in range(4)]
    assert all(same(one, answers[0]) for one in answers)


def test_request_is_traced_through_gateway_and_worker(several: Several, unbroken: str) -> None:
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    headers = {"traceparent": f"00-{trace}-{parent}-01", "X-Request-Id": "traced-1"}
    body = {"context": unbroken, "inputs": TEXTS}
    assert several.clients[0].post("/classify", json=body, headers=headers).status_code == 200
    names = {"POST /classify", "queue", "device", "reply"}
    eventually(lambda: set(several.traces.of(trace)) == names)
    spans = several.traces.of(trace)
    request = spans["POST /classify"]
    (line,) = several.requests("traced-1")
    assert {"context_id": unbroken, "tenant": "default", "trace_id": trace, "status": 200}.items() <= line.items()
    assert (request.service, request.parent) == ("contextune-gateway", parent)
    assert request.attributes["request_id"] == "traced-1"
    assert request.attributes["http.response.status_code"] == 200
    assert {spans[name].parent for name in ("queue", "device", "reply")} == {request.id}
    assert (spans["device"].service, spans["reply"].service) == ("contextune-worker", "contextune-gateway")
    assert all(0 <= span.seconds <= request.seconds for span in spans.values())
    assert not any(text in str(span.attributes) for span in several.traces.spans for text in TEXTS)
    assert not any("/health/" in span.name for span in several.traces.spans)


def test_plan_and_job_are_traced_and_every_line_of_a_job_names_it(several: Several) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01", "X-Request-Id": "traced-2"}
    body = {"examples": EXAMPLES, "hyperparameters": TUNING}
    created = several.clients[0].post("/contexts", json=body, headers=headers).json()
    ids = {"context_id": created["context"]["id"], "job_id": created["job"]["id"]}
    assert ended(several.clients[0], ids["job_id"])["status"] == "succeeded"
    eventually(lambda: set(several.traces.of(trace)) == {"POST /contexts", "plan"})
    assert several.traces.of(trace)["plan"].service == "contextune-worker"
    job = eventually(
        lambda: [one for one in list(several.traces.spans) if one.attributes.get("job_id") == ids["job_id"]]
    )
    assert [(one.name, one.service) for one in job] == [("job", "contextune-worker")]
    named = {"tenant": "default", "request_id": "traced-2", **ids}
    lines = [line for name in ("on-time", "ahead") for line in several.logged(name)]
    of_job = [line for line in lines if line.get("job_id") == ids["job_id"]]
    assert [line["event"] for line in of_job] == ["job_started", "job_ended"]
    assert all(named.items() <= line.items() for line in of_job)
    (line,) = several.requests("traced-2")
    assert {**named, "trace_id": trace, "status": 202}.items() <= line.items()


def test_alias_moves_under_load_without_a_failed_a_mixed_or_a_cold_answer(several: Several) -> None:
    client, other = several.clients
    for tuning in ({"method": "icl"}, {"method": "cpt", "steps": 2}):
        body = {"name": "moved", "examples": EXAMPLES, "hyperparameters": tuning}
        assert ended(client, client.post("/contexts", json=body).json()["job"]["id"])["status"] == "succeeded"

    def loads() -> float:
        lines = client.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("contextune_prefix_loads"))

    def move(version: int) -> None:
        moved = client.put("/contexts/moved/aliases/prod", json={"version": version})
        assert (moved.status_code, moved.json()["resident"]) == (200, True), moved.text

    before = loads()
    for version in (1, 2):  # nobody asks yet: either worker has loaded it by itself
        move(version)
    eventually(lambda: loads() == before + 4)
    done = threading.Event()

    def ask(asked: httpx.Client) -> list[dict[str, Any]]:
        answers = []
        while not done.is_set():
            answer = asked.post("/classify", json={"context": "moved@prod", "inputs": TEXTS})
            assert answer.status_code == 200, answer.text
            answers.append(answer.json())
        return answers

    with ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(ask, one) for one in (client, other) * 2]
        try:
            for version in (1, 2, 1):
                move(version)
                answer = other.post("/classify", json={"context": "moved@prod", "inputs": TEXTS}).json()
                assert answer["context_version"] == version
        finally:
            done.set()
        answers = [answer for one in asking for answer in one.result(60)]
    assert {answer["context_version"] for answer in answers} == {1, 2}
    for version in (1, 2):
        told = [read(answer) for answer in answers if answer["context_version"] == version]
        assert all(same(one, confidences(client, f"moved@{version}")) for one in told)
    assert loads() == before + 4


def test_clock_of_a_worker_a_minute_ahead_changes_nothing(several: Several, unbroken: str) -> None:
    on_time, _ = several.workers
    on_time.kill()
    several.wait(several.clients[0], workers=1)
    context_id, job_id = post(several.clients[0])
    assert ended(several.clients[0], job_id)["attempt"] == 1
    assert same(confidences(several.clients[0], context_id), confidences(several.clients[0], unbroken))
    on_time.start_again()
    several.wait(several.clients[0])


@pytest.mark.parametrize("number", [0, 1])
def test_worker_killed_while_all_is_under_way(several: Several, unbroken: str, number: int) -> None:
    expected = confidences(several.clients[0], unbroken)
    jobs = [post(client) for client in several.clients]
    eventually(lambda: all(job(several.clients[0], job_id)["progress"]["step"] > 0 for _, job_id in jobs), 60)
    _while_answering(several, unbroken, expected, several.workers[number].kill)
    several.workers[number].start_again()
    for context_id, job_id in jobs:
        assert ended(several.clients[0], job_id)["status"] == "succeeded"
        assert same(confidences(several.clients[1], context_id), expected)
    several.wait(several.clients[0])


def _while_answering(several: Several, ref: str, expected: list[float], act: Callable[[], None]) -> None:
    """Do something while requests are under way, each of which must be answered as if nothing had happened."""
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(confidences, client, ref, 40) for client in several.clients for _ in range(3)]
        confidences(several.clients[0], ref)
        act()
        for one in asked:
            assert same(one.result(120), expected * 40)


def test_gateway_killed_while_all_is_under_way(several: Several, unbroken: str) -> None:
    (killed, other), (gone, stays) = several.gateways, several.clients
    expected = confidences(stays, unbroken)
    context_id, job_id = post(gone)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(confidences, stays, unbroken, 40) for _ in range(2)]
        killed.kill()
        for one in asked:
            assert same(one.result(120), expected * 40)
    assert other.process.poll() is None
    assert ended(stays, job_id)["status"] == "succeeded"
    assert same(confidences(stays, context_id), expected)
    killed.start_again()
    several.wait(gone)
    assert same(confidences(gone, context_id), expected)


def test_batch_goes_on_whatever_dies_and_what_was_uploaded_in_part_is_refused(several: Several, unbroken: str) -> None:
    """A worker is killed in its midst, a gateway with an upload on its way: the results are the same to the byte."""
    lines = [{"id": f"{number}", "text": f"{number} {TEXTS[number % 3]}"} for number in range(3000)]
    for line in lines[::20]:
        line["label"] = EXAMPLES[0]["label"]
    with Contextune(str(several.clients[1].base_url)) as client:
        whole = client.batches.create(unbroken, lines, top_k=2)
        assert whole.counts.total == len(lines)
        assert whole.wait(timeout=120).report
        broken = client.batches.create(unbroken, lines, top_k=2)
        eventually(lambda: broken.refresh().counts.done > 0, 60)
        seen = list(broken.results())
        with _half_an_upload(several.clients[0], unbroken) as upload:
            several.gateways[0].kill()
            for worker in several.workers:
                worker.kill()
            with suppress(ConnectionResetError):
                assert upload.recv(1) == b""
        several.gateways[0].start_again()
        for worker in several.workers:
            worker.start_again()
        ended_batch = broken.wait(timeout=120)
        assert ended_batch.counts.done == len(lines)
        assert ended_batch.attempt == 2
        assert ended_batch.report == whole.refresh().report
        assert [one.index for one in seen] == list(range(len(seen)))
        assert next(broken.results(after=len(seen) - 1)).index == len(seen)
    several.wait(several.clients[0])
    for query in ("", "?format=csv"):
        first, second = (several.clients[0].get(f"/batches/{one.id}/results{query}") for one in (whole, broken))
        assert first.headers["contextune-complete"] == "true"
        assert first.content == second.content
    assert len(several.clients[0].get("/batches").json()["data"]) == 2
    for one in (whole, broken):
        assert several.clients[0].delete(f"/jobs/{one.id}").status_code == 204


@contextmanager
def _half_an_upload(client: httpx.Client, ref: str) -> Iterator[socket.socket]:
    """A connection that has sent one half of what it said it would."""
    url = client.base_url
    head = f"POST /batches?context={ref} HTTP/1.1\r\nHost: {url.host}\r\nContent-Type: application/jsonl\r\n"
    body = f"{head}Content-Length: 680000\r\n\r\n".encode() + b'{"text": "half"}\n' * 20_000
    with socket.create_connection((url.host, url.port or 80), timeout=60) as upload:
        upload.sendall(body)
        yield upload


class Reader:
    """Reads the events of a job, goes on from the last one where the stream breaks off, and takes gateways by turns."""

    def __init__(self, clients: list[httpx.Client], job_id: str) -> None:
        self._clients = clients
        self._job_id = job_id
        self.events: list[dict[str, Any]] = []
        self.connections = 0

    def read(self) -> list[dict[str, Any]]:
        """All events until the one that ends the job."""
        until = time.monotonic() + 150
        while time.monotonic() < until:
            client = self._clients[self.connections % len(self._clients)]
            with suppress(httpx.TransportError, ConnectionError):
                if self._read_one(client):
                    return self.events
            self.connections += 1
            time.sleep(0.1)
        raise AssertionError("the job's end was not told")

    def statuses(self) -> list[str]:
        return [event["data"]["status"] for event in self.events if event["type"] == "status"]

    def _read_one(self, client: httpx.Client) -> bool:
        headers = {"Accept": "text/event-stream"}
        if self.events:
            headers["Last-Event-ID"] = self.events[-1]["id"]
        with client.stream("GET", f"/jobs/{self._job_id}/events", headers=headers) as stream:
            if stream.status_code != 200:
                return False
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    self.events.append(json.loads(line.removeprefix("data:")))
                    if self.statuses()[-1] in ("succeeded", "failed", "cancelled"):
                        return True
        return False


def test_readers_of_events_miss_nothing_and_see_nothing_twice_whatever_dies(several: Several) -> None:
    tuning = {"method": "cpt", "steps": 800, "seed": 3}
    response = several.clients[0].post("/contexts", json={"examples": EXAMPLES, "hyperparameters": tuning})
    job_id = response.json()["job"]["id"]
    readers = [Reader(several.clients[::order], job_id) for order in (1, -1)]
    with ThreadPoolExecutor(2) as pool:
        reading = [pool.submit(reader.read) for reader in readers]
        eventually(several.checkpoint(job_id).exists, 60)
        several.gateways[0].kill()
        eventually(lambda: all(reader.events[-1:] and reader.connections for reader in readers[:1]))
        several.restart_all()
        for one in reading:
            one.result(300)
    listed = Reader(several.clients, job_id).read()
    told = [event for event in listed if event["type"] != "metrics"]
    for reader in readers:
        ids = [int(event["id"]) for event in reader.events]
        assert ids == sorted(set(ids))
        assert [event for event in reader.events if event["type"] != "metrics"] == told
        assert reader.statuses() == ["queued", "running", "queued", "running", "succeeded"]
    words = [event["message"] for event in told if event["type"] == "message"]
    assert words[0] == "its worker was lost: the job goes back to the queue"
    assert words[1].startswith("going on from the checkpoint after step")
    metrics = [event["data"] for event in listed if event["type"] == "metrics"]
    assert 0 < len(metrics) <= 200
    assert all({"step", "loss", "learning_rate", "at_epsilon"} <= set(one) for one in metrics)
    steps = [one["step"] for one in metrics]
    assert steps[-1] == 800
