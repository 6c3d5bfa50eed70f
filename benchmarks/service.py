"""The service: latency and throughput under load, its own overhead, and how soon it gets to work.

Every figure is held against the same work done in this process, in the same round. The service is idle then.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from app.contract.names import DEFAULT_MODELS
from benchmarks.in_process import InProcess, first_progress
from benchmarks.isolation import ask
from benchmarks.measurement import ratios, spread, timed
from benchmarks.null_model import NAME as NULL
from benchmarks.null_model import save_null_model
from benchmarks.results import Cell, Results
from benchmarks.running import Service, running, until
from benchmarks.settings import Settings
from benchmarks.subject import MODEL, Subject
from worker.config import ModelSource
from worker.models import load_language_model

CONTEXT_EXAMPLES = 8
#: A small context with two labels, so that the heaviest load takes minutes and not hours.
LOAD_EXAMPLES = 2
#: Inputs in a message to a worker, the service's default; more at once are no faster in this process either.
MAX_BATCH = 64
#: The heaviest load holds 8192 inputs at once, for minutes; the defaults would refuse it.
_ENVIRONMENT = {
    "MAX_PENDING_INPUTS": "16384",
    "CLASSIFY_TIMEOUT": "3600",
    "MAX_WAIT": "3600",
    "MAX_BATCH_INPUTS": str(MAX_BATCH),
}
_NULL_SECONDS = 2.0
_ENDLESS_STEPS = 1000
_MANY_INPUTS = 512
#: After so long a large request is being computed, and its next message waits.
_UNDER_WAY_SECONDS = 2.0


def measure(subject: Subject, settings: Settings, results: Results, cache: Path, data: Path) -> None:
    """All cells of the service, which is started if one of them is missing."""
    with tempfile.TemporaryDirectory(prefix="contextune-null-") as folder:
        save_null_model(subject.base.tokenizer, Path(folder))
        models = {**DEFAULT_MODELS, NULL: {"path": folder}}
        with running(models, cache, _ENVIRONMENT) as service:
            _measure(service, subject, settings, results, Path(folder), cache, data)


def _measure(
    service: Service, subject: Subject, settings: Settings, results: Results, null: Path, cache: Path, data: Path
) -> None:
    examples = list(subject.texts.examples[:CONTEXT_EXAMPLES])
    peer = InProcess.prepare(subject.base.model, subject.base.tokenizer, examples)
    nobody = load_language_model(NULL, ModelSource(path=str(null)), null, lambda _: None)
    null_peer = InProcess.prepare(nobody.model, nobody.tokenizer, examples)
    results.cell("overhead/null", lambda: _overhead(service, subject, settings, NULL, null_peer, _NULL_SECONDS))
    results.cell("overhead/default", lambda: _overhead(service, subject, settings, MODEL, peer, settings.load_seconds))
    results.cell("first/step", lambda: _first_step(service, subject, settings))
    results.cell("first/classification", lambda: _first_classification(service, subject, settings))
    results.cell("first/beside", lambda: _beside_large_request(service, subject, settings))
    restart = partial(_after_restart, service, subject, settings, str(cache), str(data))
    results.cell("first/restart", restart)
    light = InProcess.prepare(subject.base.model, subject.base.tokenizer, examples[:LOAD_EXAMPLES])
    for inputs in settings.inputs:
        for clients in settings.clients:
            under_load = partial(_under_load, service, subject, settings, light, clients, inputs)
            results.cell(f"load/{clients}x{inputs}", under_load)


def _overhead(
    service: Service, subject: Subject, settings: Settings, model: str, peer: InProcess, seconds: float
) -> Cell:
    """One client with one input, against the same query in this process: what is added is the service's."""
    context, texts = _plain_context(service, subject, model), list(subject.texts.queries)
    there: list[float] = []
    here: list[float] = []
    for _ in range(settings.rounds):
        there.append(statistics.median(_load(service, context, texts, 1, 1, seconds)["latencies"]))
        here.append(statistics.median(peer.latencies(texts, 1, seconds)))
    added = [above - below for above, below in zip(there, here, strict=True)]
    return {"model": model, "service": spread(there), "in_process": spread(here), "overhead": spread(added)}


def _under_load(
    service: Service, subject: Subject, settings: Settings, peer: InProcess, clients: int, inputs: int
) -> Cell:
    """Clients at work, against this process on batches as large as the service can make of their requests."""
    context, texts = _plain_context(service, subject, MODEL, LOAD_EXAMPLES), list(subject.texts.queries)
    batch = min(MAX_BATCH, clients * inputs)
    service.classify(context, texts[:1]).raise_for_status()
    peer.classify(texts[:batch])
    p50: list[float] = []
    p99: list[float] = []
    rates: list[float] = []
    here: list[float] = []
    requests = 0
    for _ in range(settings.rounds):
        found = _load(service, context, texts, clients, inputs, settings.load_seconds)
        latencies = sorted(found["latencies"])
        requests += len(latencies)
        p50.append(statistics.median(latencies))
        p99.append(latencies[min(len(latencies) - 1, len(latencies) * 99 // 100)])
        rates.append(found["inputs_per_second"])
        batches = peer.latencies(texts, batch, settings.load_seconds)
        here.append(batch * len(batches) / sum(batches))
    return {
        "clients": clients,
        "inputs": inputs,
        "batch": batch,
        "labels": len(peer.label_ids),
        "requests": requests,
        "p50": spread(p50),
        "p99": spread(p99),
        "rate": spread(rates),
        "in_process_rate": spread(here),
        "share": ratios(rates, here),
    }


def _first_step(service: Service, subject: Subject, settings: Settings) -> Cell:
    """From POST /contexts to progress above zero on a warm worker, against the same work in this process."""
    examples, base = list(subject.texts.examples[:CONTEXT_EXAMPLES]), subject.base
    there: list[float] = []
    here: list[float] = []
    for _ in range(settings.rounds):
        job: list[str] = []

        def first(job: list[str] = job) -> None:
            job.append(service.create(MODEL, examples, method="cpt", steps=_ENDLESS_STEPS)[1])
            until(lambda: service.job(job[0])["progress"]["fraction"] > 0)

        there.append(timed(first))
        service.http.post(f"/jobs/{job[0]}/cancel").raise_for_status()
        until(lambda job=job: service.job(job[0])["terminal"])  # type: ignore[misc]
        here.append(timed(lambda: first_progress(base.model, base.tokenizer, examples)))
    return _against("from POST /contexts to the first progress", "the same work in this process", there, here)


def _first_classification(service: Service, subject: Subject, settings: Settings) -> Cell:
    """The first query after a job's success, which loads the context, against the queries that follow."""
    examples, texts = list(subject.texts.examples[:CONTEXT_EXAMPLES]), list(subject.texts.queries)
    first: list[float] = []
    later: list[float] = []
    for _ in range(settings.rounds):
        context, job = service.create(MODEL, examples, method="cpt", steps=1)
        service.succeeded(job)
        first.append(timed(lambda context=context: service.classify(context, texts[:1]).raise_for_status()))  # type: ignore[misc]
        rest = [timed(lambda context=context: service.classify(context, texts[:1])) for _ in range(5)]  # type: ignore[misc]
        later.append(statistics.median(rest))
    return _against("first classification after a job's success", "the classifications after it", first, later)


def _beside_large_request(service: Service, subject: Subject, settings: Settings) -> Cell:
    """A request with one input while one with many is being answered, against the same without company."""
    context, texts = _plain_context(service, subject, MODEL), list(subject.texts.queries)
    many = (texts * _MANY_INPUTS)[:_MANY_INPUTS]

    def one() -> None:
        service.classify(context, texts[:1]).raise_for_status()

    beside: list[float] = []
    alone: list[float] = []
    with ThreadPoolExecutor(1) as client:
        for _ in range(settings.rounds):
            alone.append(statistics.median(timed(one) for _ in range(5)))
            large = client.submit(service.classify, context, many)
            time.sleep(_UNDER_WAY_SECONDS)
            beside.append(statistics.median(timed(one) for _ in range(3)))
            if large.done():
                raise RuntimeError("the large request was answered too soon to be beside")
            large.result().raise_for_status()
    return _against(f"one input beside a request with {_MANY_INPUTS}", "the same alone", beside, alone)


def _after_restart(service: Service, subject: Subject, settings: Settings, cache: str, data: str) -> Cell:
    """From kill -9 of the worker to the first answer, against a bare process that loads and answers."""
    context, texts = _plain_context(service, subject, MODEL), list(subject.texts.queries)
    there: list[float] = []
    here: list[float] = []
    for _ in range(settings.rounds):
        request = {"cache": cache, "data": data, "examples": CONTEXT_EXAMPLES, "text": texts[0]}
        here.append(timed(lambda request=request: ask("benchmarks.first_answer", **request)))  # type: ignore[misc]
        worker = service.worker()
        time.sleep(max(0.0, worker.create_time() + settings.steady_seconds - time.time()))
        worker.kill()
        there.append(timed(lambda: until(lambda: _answers(service, context, texts[0]))))
    return _against("from kill -9 of the worker to the first answer", "a bare process that does the same", there, here)


def _answers(service: Service, context: str, text: str) -> bool:
    return service.classify(context, [text]).status_code == httpx.codes.OK


def _against(what: str, peer: str, there: Sequence[float], here: Sequence[float]) -> Cell:
    return {"what": what, "peer": peer, "service": spread(there), "other": spread(here), "ratio": ratios(there, here)}


def _plain_context(service: Service, subject: Subject, model: str, examples: int = CONTEXT_EXAMPLES) -> str:
    """A context that is ready, untuned: tuning changes nothing in what a query costs."""
    context, job = service.create(model, list(subject.texts.examples[:examples]), method="icl")
    service.succeeded(job)
    return context


def _load(service: Service, context: str, texts: list[str], clients: int, inputs: int, seconds: float) -> Any:
    request = {"url": service.url, "context": context, "texts": texts}
    return ask("benchmarks.clients", **request, clients=clients, inputs=inputs, seconds=seconds)
