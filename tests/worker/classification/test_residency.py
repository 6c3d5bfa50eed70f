"""What a gateway asks of all workers before an alias moves, over a real bus."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import redis

from app.classification.bus import Bus
from app.classification.residency import make_resident
from app.contract.messages import Announcement
from app.contract.names import RESIDENCY_CHANNEL
from tests.submissions import MODEL, submission
from tests.waiting import eventually
from tests.worker.tiny import stored_context
from worker.artifacts import Artifacts
from worker.bus import WorkerBus
from worker.classification.preparing import prepare
from worker.classification.residency import ResidencyThread
from worker.classification.resident import ResidentContexts
from worker.models import LanguageModel


@contextmanager
def worker(url: str, name: str, residents: ResidentContexts) -> Iterator[None]:
    """A worker that is announced, and listens."""
    bus, thread = WorkerBus(url, name), ResidencyThread(url, name, {MODEL: residents})
    thread.start()
    bus.announce([Announcement(worker_id=name, model=MODEL, ready=True)])
    yield
    thread.stop()
    bus.close()


def asked(url: str, artifact: str, workers: int, seconds: float = 30) -> bool:
    """What the gateway learns, once it sees so many workers."""

    async def ask() -> bool:
        bus = Bus(url)
        await bus.start()
        try:
            await asyncio.to_thread(eventually, lambda: bus.live_workers(MODEL) == workers)
            return await make_resident(bus, MODEL, artifact, seconds)
        finally:
            await bus.stop()

    return asyncio.run(ask())


@pytest.fixture
def artifact(base: LanguageModel, artifacts: Artifacts) -> str:
    return stored_context(base, artifacts, submission().spec)


def kept(base: LanguageModel, artifacts: Artifacts) -> ResidentContexts:
    return ResidentContexts(artifacts, partial(prepare, base), 10**9)


def test_every_worker_has_the_context_ready(
    bus_url: str, base: LanguageModel, artifacts: Artifacts, artifact: str
) -> None:
    first, second = kept(base, artifacts), kept(base, artifacts)
    with worker(bus_url, "first", first), worker(bus_url, "second", second):
        with redis.Redis.from_url(bus_url) as client:
            client.publish(RESIDENCY_CHANNEL, "no message")
        assert asked(bus_url, artifact, 2)
        assert (len(first), len(second)) == (1, 1)
        assert not asked(bus_url, "0" * 64, 2)  # an artifact that is not there


def test_worker_that_does_not_answer_is_not_waited_for_longer_than_is_allowed(
    bus_url: str, base: LanguageModel, artifacts: Artifacts, artifact: str
) -> None:
    silent = WorkerBus(bus_url, "silent")
    silent.announce([Announcement(worker_id="silent", model=MODEL, ready=True)])
    residents = kept(base, artifacts)
    with worker(bus_url, "first", residents):
        assert not asked(bus_url, artifact, 2, seconds=0.5)
    silent.close()


def test_without_a_worker_nothing_is_ready(bus_url: str, artifact: str) -> None:
    assert not asked(bus_url, artifact, 0)
