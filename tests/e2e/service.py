"""The whole service as a user runs it: ``contextune up`` in a process of its own, spoken to over HTTP."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from app.standalone.embedded import EmbeddedServer
from tests.ports import free_port
from tests.waiting import eventually

TINY = "tiny"
EXAMPLES = [
    {"text": "I still haven't received my card in the mail", "label": "card arrival"},
    {"text": "How do I link my card in the app?", "label": "card linking"},
    {"text": "Where is the tracking number for the card?", "label": "card arrival"},
    {"text": "Can I link a card I already have?", "label": "card linking"},
]
TEXTS = ["my card never came", "add the card to my phone", "when will it be delivered?"]


class Service:
    """A service on ``folder``, whose dequantised models are kept in ``model_cache``."""

    def __init__(self, folder: Path, model_cache: Path, **settings: str) -> None:
        self.folder = folder
        port = free_port()
        self._environment = {
            **os.environ,
            "CONTEXTUNE_DATA_DIR": str(folder),
            "CONTEXTUNE_PORT": str(port),
            "CONTEXTUNE_ENCODER": "none",
            **{f"CONTEXTUNE_{name.upper()}": value for name, value in settings.items()},
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=150, trust_env=False)
        folder.mkdir(exist_ok=True)
        (folder / "models").symlink_to(model_cache)

    def model_folder(self, name: str) -> str:
        """Where a base model lies that was given to the service by a folder."""
        return str(json.loads(self._environment["CONTEXTUNE_MODELS"])[name]["path"])

    def start(self) -> None:
        """Start, and wait until it is ready."""
        command = [sys.executable, "-m", "app.standalone.cli"]
        with (self.folder / "said").open("ab") as said:
            self._process = subprocess.Popen(command, env=self._environment, stdout=said, stderr=said)
        eventually(self._ready, 240)

    def stop(self) -> None:
        """What Ctrl-C does."""
        assert self._process
        self._process.send_signal(signal.SIGINT)
        assert self._process.wait(60) == 0, self.said()

    def close(self) -> None:
        """End it if it runs."""
        self.http.close()
        if self._process and self._process.poll() is None:
            self.stop()

    def said(self) -> str:
        return (self.folder / "said").read_text()

    def _ready(self) -> bool:
        assert self._process
        assert self._process.poll() is None, self.said()
        try:
            ready = self.http.get("/health/ready").json()
            models = ready["checks"]["models"].values()
            return ready["status"] == "ready" and all(model["status"] == "ready" for model in models)
        except httpx.TransportError:
            return False

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """What ``contextune`` says with the settings of this service."""
        return subprocess.run(
            [sys.executable, "-m", "contextune.cli", *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    # -- its processes and files --------------------------------------------------------------------------------------

    def worker_pid(self) -> int | None:
        """Process id of the worker, None while there is none."""
        assert self._process
        listed = subprocess.run(
            ["/bin/ps", "-o", "pid=,args=", "--ppid", str(self._process.pid)],
            capture_output=True,
            text=True,
            check=False,
        )
        workers = [line.split()[0] for line in listed.stdout.splitlines() if line.endswith("-m worker")]
        return int(workers[0]) if workers else None

    def kill_worker(self) -> None:
        pid = eventually(self.worker_pid)
        assert pid
        os.kill(pid, signal.SIGKILL)

    def kill_bus(self) -> None:
        """Kill the bus; the service starts it again."""
        pid = EmbeddedServer.bus(self.folder).pid
        assert pid
        os.kill(pid, signal.SIGKILL)

    def artifacts(self) -> set[str]:
        """Files with artifacts and checkpoints."""
        return {str(path) for path in (self.folder / "artifacts").rglob("*.*") if path.is_file()}

    # -- what its users do --------------------------------------------------------------------------------------------

    def post_context(self, **fields: Any) -> httpx.Response:
        """Post a small context; ``fields`` replace the usual ones."""
        body = {"examples": EXAMPLES, "hyperparameters": {"method": "cpt", "steps": 2}, **fields}
        return self.http.post("/contexts", json=body)

    def create(self, **fields: Any) -> tuple[str, str]:
        """Ids of a new context and of its job."""
        response = self.post_context(**fields)
        assert response.status_code == 202, response.text
        return response.json()["context"]["id"], response.json()["job"]["id"]

    def job(self, job_id: str, wait: float = 0) -> dict[str, Any]:
        response = self.http.get(f"/jobs/{job_id}", params={"wait": wait})
        assert response.status_code == 200, response.text
        return cast("dict[str, Any]", response.json())

    def ended(self, job_id: str, seconds: float = 120) -> dict[str, Any]:
        """The job once it is terminal."""
        return eventually(lambda: (job := self.job(job_id, wait=20))["terminal"] and job, seconds)

    def moving(self, job_id: str) -> None:
        """Return once the job has done a step."""
        eventually(lambda: self.job(job_id)["progress"]["step"] > 0, 60)

    def tuned(self, **fields: Any) -> str:
        """Id of a context that can answer."""
        context_id, job_id = self.create(**fields)
        job = self.ended(job_id)
        assert job["status"] == "succeeded", job
        return context_id

    def context(self, ref: str) -> dict[str, Any]:
        response = self.http.get(f"/contexts/{ref}")
        assert response.status_code == 200, response.text
        return cast("dict[str, Any]", response.json())

    def post_classify(self, ref: str, inputs: Sequence[str], **fields: Any) -> httpx.Response:
        return self.http.post("/classify", json={"context": ref, "inputs": list(inputs), **fields})

    def confidences(self, ref: str, inputs: Sequence[str] = TEXTS) -> list[float]:
        """Confidence of each label in each input, one after the other."""
        return self.confidences_in(self.post_classify(ref, inputs))

    def confidences_in(self, response: httpx.Response) -> list[float]:
        """Confidence of each label in each answer, one after the other."""
        assert response.status_code == 200, response.text
        answers = response.json()["classifications"]
        return [label["confidence"] for answer in answers for label in answer["labels"].values()]

    def listed(self, path: str, **query: Any) -> list[str]:
        """Ids of one page of a list."""
        response = self.http.get(path, params={"limit": 100, **query})
        assert response.status_code == 200, response.text
        return [one["id"] for one in response.json()["data"]]


def assert_problem(response: httpx.Response, status: int, code: str, param: str | None = None) -> None:
    """A problem document (RFC 9457) of this status, code and pointer, with its request id."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json"), (
        response.text
    )
    document = response.json()
    assert document == {
        "type": f"urn:contextune:problem:{code}",
        "title": document["title"],
        "status": status,
        "detail": document["detail"],
        "instance": response.request.url.raw_path.partition(b"?")[0].decode(),
        "code": code,
        "param": param,
        "request_id": response.headers["x-request-id"],
    }
    assert document["title"]
    assert document["detail"]


def same(values: Sequence[float], others: Sequence[float]) -> bool:
    """Equal but for rounding."""
    return bool(list(values) == pytest.approx(list(others), abs=1e-4))
