"""The store with 100,000 contexts and jobs: latencies, memory for each, and what is left once all of it has ended.

``python -m benchmarks.store``; with ``--count`` fewer. It runs a store of its own in a temporary folder, configured as
``contextune up`` configures it, but for the fsync of each write while it is filled and emptied. Examples and reports
are files beside it.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

import redis

from app.contract.names import ErrorCode, JobStatus
from app.contract.objects import JobError, Report
from app.contract.tuning import Example
from app.records.connection import connect, new_id
from app.records.limits import QueueLimits, Retention
from app.records.lists import ContextFilter, JobFilter
from app.records.store import Records
from app.standalone.embedded import EmbeddedServer
from tests.submissions import EXAMPLES, submission
from tests.waiting import eventually

_TENANTS: Final = ("default", "other")
_MODELS: Final = ("model-a", "model-b")
_VERSIONS: Final = 10
_QUEUED: Final = 1_000
_REPEATS: Final = 200
_THREADS: Final = 8


@contextmanager
def store() -> Iterator[tuple[redis.Redis, str]]:
    """A client of a store of its own, and where its files go."""
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedServer.store(Path(folder))
        server.start()
        try:
            eventually(server.answers)
            with connect(server.url) as client:
                client.config_set("maxmemory", 0)
                yield client, f"file://{folder}/artifacts"
        finally:
            server.stop()


def fill(records: Records, count: int) -> None:
    """Contexts in ten versions each, of two tenants and two models; one in a hundred fails, a few stay queued."""
    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(lambda number: _create(records, number, number < count - _QUEUED), range(count)))


def _create(records: Records, number: int, ends: bool) -> None:
    tenant, model = _TENANTS[number % 5 == 0], _MODELS[number % 20 == 0]
    metadata = {"team": f"team-{number % 1000}", "rare": "yes" if number % 10_000 == 0 else "no"}
    examples = (*EXAMPLES, Example(text=f"film {number}", label="good"))
    name = f"name-{number // _VERSIONS}"
    given = submission(name, model if ends else "queued", metadata=metadata, examples=examples)
    records.of(tenant).contexts.submit(given)
    if not ends:
        return
    while (claim := records.claim([model], new_id("worker"))) is None:
        time.sleep(0.001)  # another thread has taken it and will put one in
    records.beat(claim, {"step": 1, "fraction": 0.5}, 1.0, {"step": 1, "loss": 0.5})
    if number % 100 == 0:
        records.finish_failed(claim, JobError(code=ErrorCode.INTERNAL, message="an unexpected error in the worker"))
    else:
        records.finish_succeeded(claim, new_id("artifact"), Report(served="tuned", loss_curve=(1.0, 0.5)), {"step": 3})


def questions(records: Records, count: int) -> dict[str, Callable[[], object]]:
    """What is asked of the store, by what is said of it."""
    tenant, chance = records.of("default"), random.Random(0)
    contexts, jobs = tenant.contexts, tenant.jobs
    deep = contexts.page(100).next
    for _ in range(100):
        deep = contexts.page(100, deep).next if deep else None
    job_ids = [job.id for job in jobs.page(100, None, JobFilter(status=JobStatus.SUCCEEDED)).data]
    context_ids = [stored.context.id for stored in contexts.page(100).data]

    def name() -> str:
        return f"name-{chance.randrange(count // _VERSIONS)}"

    return {
        "list 20 contexts": lambda: contexts.page(20),
        "list 20 contexts after 10,000": lambda: contexts.page(20, deep),
        "filter contexts: name": lambda: contexts.page(20, None, ContextFilter(name=name())),
        "filter contexts: failed": lambda: contexts.page(20, None, ContextFilter(status=JobStatus.FAILED)),
        "filter contexts: failed, of the rarer model": lambda: contexts.page(
            20, None, ContextFilter(status=JobStatus.FAILED, model=_MODELS[1])
        ),
        "filter contexts: 1 in 1,000 by metadata, succeeded": lambda: contexts.page(
            20, None, ContextFilter(status=JobStatus.SUCCEEDED, metadata={"team": "team-7"})
        ),
        "filter contexts: two of the largest indexes, nothing in both": lambda: contexts.page(
            20, None, ContextFilter(status=JobStatus.QUEUED, model=_MODELS[0])
        ),
        "filter jobs: running": lambda: jobs.page(20, None, JobFilter(status=JobStatus.RUNNING)),
        "filter jobs: of a context": lambda: jobs.page(20, None, JobFilter(context_id=chance.choice(context_ids))),
        "look up a name": lambda: contexts.resolve(name()),
        "look up a name for a classification": lambda: contexts.resolve(name(), report=False),
        "look up a version": lambda: contexts.resolve(f"{name()}@3"),
        "look up a job": lambda: jobs.get(chance.choice(job_ids)),
        "events of a job": lambda: jobs.events(chance.choice(job_ids)),
        "names that can answer, 1,000": lambda: contexts.named(1_000),
        "claim": lambda: records.claim(["queued"], new_id("worker")),
        "claim where nothing is queued": lambda: records.claim([_MODELS[0]], new_id("worker")),
        "submit": lambda: contexts.submit(submission(name(), "queued")),
        "sweep": records.sweep,
        "sweep what is kept for long enough": records.retire,
        "sweep files": records.garbage.files,
    }


def measured(ask: Callable[[], object]) -> tuple[float, float, float]:
    """Median, 99th percentile and maximum in milliseconds."""
    times = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        ask()
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times), statistics.quantiles(times, n=100)[-1], max(times)


def empty(records: Records) -> None:
    """Delete every context, and remove every job as its retention does."""
    for name in _TENANTS:
        tenant = records.of(name)
        with ThreadPoolExecutor(_THREADS) as threads:
            while page := tenant.contexts.page(100).data:
                list(threads.map(lambda stored, tenant=tenant: _delete(tenant, stored.context.id), page))
    while records.sweep() or records.retire():
        pass


def _delete(tenant: Any, context_id: str) -> None:
    tenant.contexts.delete(context_id)
    tenant.contexts.deleted(context_id)


def main() -> None:
    """Fill, ask, empty, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    count = parser.parse_args().count
    with store() as (client, files):
        limits = QueueLimits(all=10 * count, tenant=10 * count)
        records = Records(client, limits, Retention(names=0.001), files)
        before, started = _memory(client), time.monotonic()
        client.config_set("appendfsync", "no")
        fill(records, count)
        print(f"{count:,} contexts and as many jobs, filled in {time.monotonic() - started:.0f} s:", flush=True)
        print(f"{(_memory(client) - before) / count:,.0f} bytes of memory for a context with its job and events")
        client.config_set("appendfsync", "always")
        print("\n| | median ms | p99 ms | most ms |\n| --- | ---: | ---: | ---: |")
        for what, ask in questions(records, count).items():
            print(f"| {what} | " + " | ".join(f"{each:.2f}" for each in measured(ask)) + " |", flush=True)
        client.config_set("appendfsync", "no")
        empty(Records(client, limits, Retention(jobs=-1, names=0.001), files))
        time.sleep(0.1)
        left = {key: client.type(key) for key in cast("list[str]", sorted(client.keys("*")))}
        print(f"\nleft, once all contexts were deleted and all jobs had been kept long enough: {', '.join(left)}")


def _memory(client: redis.Redis) -> int:
    return int(client.info("memory")["used_memory"])


if __name__ == "__main__":
    main()
