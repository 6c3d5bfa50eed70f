"""The whole service, started as a user starts it, in a data folder and on a port of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil

START_SECONDS = 300.0
_POLL = 0.05

T = TypeVar("T")


@dataclass(frozen=True)
class Service:
    """A running service on the data folder `folder`; `http` speaks to it."""

    folder: Path
    url: str
    http: httpx.Client
    process: subprocess.Popen[bytes]

    def create(self, model: str, examples: list[tuple[str, str]], **hyperparameters: Any) -> tuple[str, str]:
        """POST /contexts; returns the ids of context and job."""
        body = {
            "model": model,
            "examples": [{"text": text, "label": label} for text, label in examples],
            "hyperparameters": hyperparameters,
        }
        created = self.http.post("/contexts", json=body).raise_for_status().json()
        return created["context"]["id"], created["job"]["id"]

    def job(self, job_id: str) -> dict[str, Any]:
        """GET /jobs/{id}."""
        found: dict[str, Any] = self.http.get(f"/jobs/{job_id}").raise_for_status().json()
        return found

    def succeeded(self, job_id: str) -> None:
        """Wait, looking often, for a job's success."""
        until(lambda: self.job(job_id)["terminal"])
        if (status := self.job(job_id)["status"]) != "succeeded":
            raise RuntimeError(f"a job has {status}")

    def classify(self, context: str, inputs: list[str]) -> httpx.Response:
        """POST /classify."""
        return self.http.post("/classify", json={"context": context, "inputs": inputs})

    def worker(self) -> psutil.Process:
        """The worker's process."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return next(child for child in children if child.cmdline()[1:] == ["-m", "worker"])


def until(look: Callable[[], T], seconds: float = START_SECONDS) -> T:
    """The first true value of `look`, which is asked for twenty times a second; raises TimeoutError.

    More often would take the cores from what is waited for.
    """
    deadline = time.monotonic() + seconds
    while not (value := look()):
        if time.monotonic() > deadline:
            raise TimeoutError("the service did not get there in time")
        time.sleep(_POLL)
    return value


@contextmanager
def running(
    models: dict[str, dict[str, Any]], cache: Path, environment: dict[str, str], place: Path | None = None
) -> Iterator[Service]:
    """`contextune up` with these models, until the block ends; unpacked models come from the folder `cache`.

    Its data folder is in `place`. SIGTERM ends the block as Ctrl-C does.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="contextune-bench-", dir=place) as folder:
        Path(folder, "models").symlink_to(cache.resolve())
        settings = {"DATA_DIR": folder, "PORT": str(port), "MODELS": json.dumps(models), **environment}
        variables = {name: value for name, value in os.environ.items() if not name.startswith("CONTEXTUNE_")}
        process = subprocess.Popen(
            [sys.executable, "-m", "app.standalone.cli"],
            env=variables | {f"CONTEXTUNE_{name}": value for name, value in settings.items()},
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        url = f"http://127.0.0.1:{port}"
        try:
            with httpx.Client(base_url=url, timeout=None, trust_env=False) as http:
                service = Service(Path(folder), url, http, process)
                until(lambda: _ready(service))
                yield service
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _ready(service: Service) -> bool:
    if service.process.poll() is not None:
        raise RuntimeError("the service ended before it was ready")
    try:
        models = service.http.get("/health/ready").json()["checks"]["models"].values()
        return all(model["status"] == "ready" for model in models)
    except httpx.TransportError:
        return False


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
