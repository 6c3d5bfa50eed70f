"""What each door adds to a request beside ``POST /classify``: ``python -m benchmarks.doors``, half a minute.

The gateway alone, in this process and without a socket, on a store of its own; a stand-in for the worker answers at
once. So what is told is processor time of translating, checking and routing, which other work on the machine changes
little. ``--profile`` tells where it goes. ``--service`` measures the whole service with the default base model, alone
on the machine: latencies at OpenAI's door beside ``/classify``, and first answers by eight examples.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import csv
import json
import pstats
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI

from app.classification.batcher import Batcher
from app.classification.lines import Answered
from app.config import Settings
from app.contract.messages import Scored, Truncate
from app.contract.names import DEFAULT_MODELS
from app.contract.objects import Report
from app.contract.plain import PlainContext
from app.main import create_app
from app.records.connection import new_id
from app.records.store import Records
from app.standalone.embedded import EmbeddedServer
from app.telemetry.logs import configure_logging
from benchmarks.running import Service, running
from tests.submissions import MODEL, submission
from tests.waiting import eventually

_ROUNDS: Final = 20
_REQUESTS: Final = 50
_NAME: Final = "cards"
_TEXT: Final = "My card got lost"
_LABELS: Final = ("good", "bad")
_PAIRS: Final = 150
_FIRST_ANSWERS: Final = 5
_EXAMPLES: Final = Path(__file__).parent.parent / "examples" / "support-intents.csv"
_CACHE: Final = Path(__file__).parent.parent / "build" / "benchmarks" / "models"
#: What is asked, by its path; the first is what the others are compared with.
_BODIES: Final[dict[str, dict[str, Any]]] = {
    "/classify": {"context": _NAME, "inputs": [_TEXT]},
    "/v1/decisions": {
        "model": _NAME,
        "input": _TEXT,
        "questions": [{"type": "choice", "instructions": "Which?", "choices": [{"value": one} for one in _LABELS]}],
    },
    "/v1/systemone": {
        "model": _NAME,
        "state": _TEXT,
        "questions": {"q": {"type": "choice", "criteria": dict.fromkeys(_LABELS)}},
    },
    "/compat/cohere/v1/classify": {"model": _NAME, "inputs": [_TEXT]},
}


class _AtOnce(Batcher):
    """A batcher that needs no worker."""

    async def classify(
        self,
        model: str,  # noqa: ARG002 - as `Batcher.classify`
        context: str | PlainContext,  # noqa: ARG002
        truncate: Truncate,  # noqa: ARG002
        inputs: Sequence[str],
        *,
        exact: bool = False,  # noqa: ARG002
    ) -> Answered:
        return Answered([Scored(confidences=(0.75, 0.25), tokens=5, truncated=False) for _ in inputs], 100)


async def _ask(app: FastAPI, path: str, body: bytes) -> None:
    """One request as a server hands it on. Raises RuntimeError for another status than 200."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return messages.pop() if messages else await asyncio.Future()

    async def send(message: Any) -> None:
        statuses.append(message.get("status", 200))

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"",
        "headers": [(b"host", b"127.0.0.1:8000"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000),
    }  # fmt: skip
    await app(scope, receive, send)
    if set(statuses) != {200}:
        raise RuntimeError(f"{path} has answered {statuses[0]}")


async def _measure(app: FastAPI, profile: bool) -> None:
    bodies = {path: json.dumps(body).encode() for path, body in _BODIES.items()}
    spent: dict[str, list[float]] = {path: [] for path in bodies}
    for path, body in bodies.items():
        await _ask(app, path, body)
    for _ in range(_ROUNDS):
        for path, body in bodies.items():
            began = time.process_time()
            for _ in range(_REQUESTS):
                await _ask(app, path, body)
            spent[path].append(1000 * (time.process_time() - began) / _REQUESTS)
    own = spent["/classify"]
    for path, found in spent.items():
        more = statistics.median(door - classify for door, classify in zip(found, own, strict=True))
        sys.stdout.write(f"{path}: {statistics.median(found):.3f} ms of the processor, {more:+.3f} ms\n")
    for path, body in bodies.items() if profile else ():
        with cProfile.Profile() as profiled:
            for _ in range(_REQUESTS):
                await _ask(app, path, body)
        sys.stdout.write(f"\n{path}, {_REQUESTS} times\n")
        pstats.Stats(profiled).sort_stats("cumulative").print_stats(60)


async def _with_gateway(settings: Settings, profile: bool) -> None:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        gateway = app.state.gateway
        _teach(gateway.records)
        old = gateway.batcher
        instant = _AtOnce(old.bus, old.max_batch_inputs, old.most, old.max_wait, old.timeout, old.metrics)
        app.state.gateway = replace(gateway, batcher=instant)
        await _measure(app, profile)


def _teach(records: Records) -> None:
    records.of("default").contexts.submit(submission(_NAME))
    claim = records.claim([MODEL], new_id("worker"))
    if claim is None:
        raise RuntimeError("the job cannot be claimed")
    records.finish_succeeded(claim, "address", Report(served="icl"), {})


def _measure_service() -> None:
    """Pairs of requests in turn, in either order, on a resident context; then examples that were never seen before."""
    with _EXAMPLES.open(newline="") as file:
        examples = [(row["text"], row["label"]) for row in csv.DictReader(file)][:8]
    _CACHE.mkdir(parents=True, exist_ok=True)
    with running(DEFAULT_MODELS, _CACHE, {"ENCODER": "none"}) as service:
        _measure_pairs(service, examples)
        firsts = []
        for number in range(_FIRST_ANSWERS):
            shown = [{"text": f"{text} ({number})", "label": label} for text, label in examples]
            firsts.append(_timed(service, "/classify", {"examples": shown, "inputs": [_TEXT]}))
        told = ", ".join(f"{first / 1000:.2f}" for first in firsts)
        sys.stdout.write(f"first answers by 8 examples: {told} s\n")


def _measure_pairs(service: Service, examples: list[tuple[str, str]]) -> None:
    context, job = service.create(next(iter(DEFAULT_MODELS)), examples, method="icl")
    service.succeeded(job)
    choices = [{"value": label} for label in dict.fromkeys(label for _, label in examples)]
    question = {"type": "choice", "instructions": "Which?", "choices": choices}
    bodies: dict[str, dict[str, Any]] = {
        "/classify": {"context": context, "inputs": [_TEXT]},
        "/v1/decisions": {"model": context, "input": _TEXT, "questions": [question]},
    }
    spent: dict[str, list[float]] = {path: [] for path in bodies}
    for number in range(_PAIRS):
        for path in bodies if number % 2 else reversed(bodies):
            spent[path].append(_timed(service, path, bodies[path]))
    for path, found in spent.items():
        sys.stdout.write(f"{path}: median {statistics.median(found):.1f} ms\n")
    more = [door - own for own, door in zip(*spent.values(), strict=True)]
    sys.stdout.write(f"more by: median of {_PAIRS} pairs {statistics.median(more):+.2f} ms\n")


def _timed(service: Service, path: str, body: dict[str, Any]) -> float:
    """Milliseconds of a request. Raises httpx.HTTPStatusError."""
    began = time.perf_counter()
    service.http.post(path, json=body).raise_for_status()
    return 1000 * (time.perf_counter() - began)


def main() -> None:
    """Measure, and print milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", action="store_true", help="tell where the time goes")
    parser.add_argument("--service", action="store_true", help="measure the whole service instead")
    given = parser.parse_args()
    configure_logging("WARNING")
    if given.service:
        _measure_service()
        return
    with tempfile.TemporaryDirectory() as folder:
        store, bus = EmbeddedServer.store(Path(folder)), EmbeddedServer.bus(Path(folder))
        store.start()
        bus.start()
        try:
            eventually(store.answers)
            eventually(bus.answers)
            settings = Settings(data_dir=Path(folder), store_url=store.url, bus_url=bus.url)
            asyncio.run(_with_gateway(settings, given.profile))
        finally:
            store.stop()
            bus.stop()


if __name__ == "__main__":
    main()
