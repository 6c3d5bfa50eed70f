"""The whole service on this machine's devices: jobs from POST to success, and clients at work."""

from __future__ import annotations

import csv
import statistics
import tempfile
from pathlib import Path
from typing import Any, Final

import torch

from app.contract.names import DEFAULT_MODELS
from benchmarks.isolation import ask
from benchmarks.measurement import timed
from benchmarks.running import Service, running

_ROWS: Final = Path(__file__).parents[2] / "examples" / "support-intents.csv"
_MODEL: Final = next(iter(DEFAULT_MODELS))
_EXAMPLES: Final = 8
#: Requests at once, and inputs of each.
_LOADS: Final = ((1, 1), (64, 1), (256, 1), (64, 64))
_ENVIRONMENT: Final = {"MAX_PENDING_INPUTS": "65536", "CLASSIFY_TIMEOUT": "600", "MAX_WAIT": "600"}


def service(seconds: float, device: torch.device) -> dict[str, Any]:
    """Jobs of `cpt` and `auto` on eight examples, then each load for so many seconds."""
    with _ROWS.open(encoding="utf-8", newline="") as file:
        rows = [(row["text"], row["label"]) for row in csv.DictReader(file)]
    examples, texts = _two_labels(rows), [text for text, _ in rows]
    models = {_MODEL: {**DEFAULT_MODELS[_MODEL], "device": str(device) if device.type == "cpu" else "auto"}}
    with (
        tempfile.TemporaryDirectory(prefix="contextune-models-") as cache,
        running(models, Path(cache), _ENVIRONMENT) as service,
    ):
        jobs = {method: _job(service, examples, texts, method) for method in ("cpt", "auto")}
        context, job = service.create(_MODEL, examples, method="icl")
        service.succeeded(job)
        return {
            "jobs": jobs,
            "loads": {f"{n}x{size}": _load(service, context, texts, n, size, seconds) for n, size in _LOADS},
        }


def _two_labels(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Eight examples of the first two labels."""
    labels = list(dict.fromkeys(label for _, label in rows))[:2]
    each = [[row for row in rows if row[1] == label][: _EXAMPLES // 2] for label in labels]
    return [row for pair in zip(*each, strict=False) for row in pair]


def _job(service: Service, examples: list[tuple[str, str]], texts: list[str], method: str) -> dict[str, Any]:
    """Seconds from the POST to the first answer, of a second job: the first one warms the worker up."""
    found: list[float] = []
    for _ in range(2):

        def work() -> None:
            context, job = service.create(_MODEL, examples, method=method)
            service.succeeded(job)
            service.classify(context, texts[:1]).raise_for_status()

        found.append(timed(work))
    return {"first": found[0], "seconds": found[1]}


def _load(
    service: Service, context: str, texts: list[str], clients: int, inputs: int, seconds: float
) -> dict[str, Any]:
    request = {"url": service.url, "context": context, "texts": texts, "clients": clients, "inputs": inputs}
    ask("benchmarks.clients", **request, seconds=seconds / 2)
    found = ask("benchmarks.clients", **request, seconds=seconds)
    latencies = sorted(found["latencies"])
    return {
        "p50": statistics.median(latencies),
        "p99": latencies[len(latencies) * 99 // 100],
        "inputs_per_second": found["inputs_per_second"],
    }
