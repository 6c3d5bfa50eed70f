"""What keys, limits and metrics cost a request to classify: ``python -m benchmarks.guarded``, a minute or two.

Two gateways before the same worker on the null model take turns: one asks for a key and takes from its limits, the
other is told not to (``CONTEXTUNE_AUTH=off``). Besides latencies the processor time of either gateway is told, which
others on the machine change less. What metrics cost both is timed by itself.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from app.standalone.embedded import EmbeddedServer
from app.telemetry.metrics import BatchTimes, Metrics
from benchmarks.null_model import NAME as NULL
from benchmarks.null_model import save_null_model, tokenizer
from benchmarks.running import Service, free_port, running, until

_ROUNDS: Final = 30
_REQUESTS: Final = 50
_EXAMPLES: Final = [("great film", "good"), ("awful plot", "bad"), ("lovely cast", "good"), ("boring", "bad")]
_SCOPES: Final = ["read", "classify", "contexts:write", "admin", "operator"]
_LIMITS: Final = {"requests_per_minute": 1_000_000, "inputs_per_minute": 1_000_000}


def main() -> None:
    """Measure, and print milliseconds."""
    with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryDirectory() as folder:
        save_null_model(tokenizer(), Path(folder))
        models = {NULL: {"path": folder}}
        with running(models, Path(cache), {"ENCODER": "none"}) as service:
            context, job = service.create(NULL, _EXAMPLES, method="icl")
            service.succeeded(job)
            key = {"name": "bench", "scopes": _SCOPES, "limits": _LIMITS}
            secret = service.http.post("/keys", json=key).raise_for_status().json()["key"]
            with _open_gateway(service, models) as (url, free), httpx.Client(base_url=url, trust_env=False) as other:
                service.http.headers["Authorization"] = f"Bearer {secret}"
                body = {"context": context, "inputs": ["my card never came"]}
                _compare([(service.http, _gateway(service.process.pid)), (other, free)], body)
    sys.stdout.write(f"metrics of a request, in both: {1000 * _metrics_seconds():.3f} ms\n")


def _compare(gateways: list[tuple[httpx.Client, psutil.Process]], body: dict[str, Any]) -> None:
    """Take turns, in the opposite order every second round; print milliseconds of both, and what the first adds."""
    latencies: list[list[float]] = [[], []]
    processor = [0.0, 0.0]
    order = [0, 1]
    for _ in range(_ROUNDS):
        for number in order:
            http, process = gateways[number]
            http.get("/metrics").raise_for_status()
            before = sum(process.cpu_times()[:2])
            latencies[number] += [_timed(http, body) for _ in range(_REQUESTS)]
            processor[number] += sum(process.cpu_times()[:2]) - before
        order.reverse()
    medians = [1000 * statistics.median(found) for found in latencies]
    spent = [1000 * seconds / (_ROUNDS * _REQUESTS) for seconds in processor]
    for name, median, cpu in zip(("with keys and limits", "without"), medians, spent, strict=True):
        sys.stdout.write(f"{name}: median {median:.2f} ms, of the gateway's processor {cpu:.2f} ms\n")
    sys.stdout.write(f"more by: median {medians[0] - medians[1]:.2f} ms, processor {spent[0] - spent[1]:.2f} ms\n")


def _gateway(pid: int) -> psutil.Process:
    """The gateway among the children of a process."""
    children = psutil.Process(pid).children(recursive=True)
    return next(child for child in children if child.cmdline()[-2:] == ["-m", "app.main"])


def _timed(http: httpx.Client, body: dict[str, Any]) -> float:
    began = time.perf_counter()
    http.post("/classify", json=body).raise_for_status()
    return time.perf_counter() - began


def _metrics_seconds() -> float:
    """What counting one request and its batch takes."""
    metrics, times = Metrics(), BatchTimes(0.001, 0.01, 0.008, 0.007)
    began = time.perf_counter()
    for _ in range(10_000):
        metrics.requests.labels("POST", "/classify", "200").inc()
        metrics.request_seconds.labels("/classify").observe(0.01)
        metrics.note_batch(NULL, times, 1, [9])
    return (time.perf_counter() - began) / 10_000


@contextmanager
def _open_gateway(service: Service, models: dict[str, dict[str, Any]]) -> Iterator[tuple[str, psutil.Process]]:
    """Another gateway on the service's store and bus, which asks for no key; its address and process."""
    port = free_port()
    environment = {
        "CONTEXTUNE_AUTH": "off",
        "CONTEXTUNE_PORT": str(port),
        "CONTEXTUNE_DATA_DIR": str(service.folder),
        "CONTEXTUNE_STORE_URL": EmbeddedServer.store(service.folder).url,
        "CONTEXTUNE_BUS_URL": EmbeddedServer.bus(service.folder).url,
        "CONTEXTUNE_MODELS": json.dumps(models),
    }
    command = [sys.executable, "-m", "app.main"]
    with subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.DEVNULL) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            until(lambda: _serves(url))
            yield url, psutil.Process(process.pid)
        finally:
            process.terminate()


def _serves(url: str) -> bool:
    try:
        models = httpx.get(f"{url}/health/ready", trust_env=False).json()["checks"]["models"]
        return bool(models[NULL]["status"] == "ready")
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    main()
