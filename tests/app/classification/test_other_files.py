"""Workers of one model with other files of it, on a real bus: what one refuses goes on to one that has others."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial

import pytest

from app.classification.admission import Load
from app.classification.batcher import Batcher
from app.classification.bus import Bus, Refused
from app.classification.lines import Answered
from app.contract.messages import ClassifyReply, Failure, PartReply, Scored
from app.contract.names import ErrorCode, classify_queue
from app.telemetry.metrics import Metrics
from tests.app.classification.test_bus import started, until
from tests.app.standin import MODEL, StandIn

CHANGED = PartReply(failure=Failure(code=ErrorCode.MODEL_CHANGED, message="other files"))
SCORED = PartReply(scored=(Scored(confidences=(1.0,), tokens=1, truncated=False),))


class Worker:
    """A worker with files, which takes what is sent to any of the model, or to those with these files."""

    def __init__(self, standin: StandIn, files: str) -> None:
        self.standin, self.files = standin, files
        self.living = asyncio.create_task(self._announce())

    async def _announce(self) -> None:
        while True:
            await asyncio.to_thread(self.standin.announce, files=self.files)
            await asyncio.sleep(0.5)

    async def answer(self, part: PartReply, files: str = "") -> None:
        """Answer the next batch for workers with these files, or for any."""
        queue = partial(classify_queue, files=files)
        taken = await asyncio.to_thread(self.standin.take, of=queue)
        self.standin.begin(taken)
        self.standin.say(taken, ClassifyReply(id=taken["id"], worker=self.standin.id, parts=(part,)))

    async def die(self) -> None:
        self.living.cancel()
        await asyncio.gather(self.living, return_exceptions=True)
        await asyncio.to_thread(self.standin.die)


Ask = Callable[[], "asyncio.Task[Answered]"]


def with_workers(url: str, files: str, scenario: Callable[[Ask, list[Worker]], Awaitable[None]]) -> None:
    """Run a scenario with a function that begins to classify, and a worker for each of these files."""

    async def whole() -> None:
        async with started(url, restart_seconds=0.5) as bus:
            batcher = Batcher(bus, 4, Load(100, 10**6), 60, 60, Metrics())
            workers = [Worker(stack.enter_context(StandIn(url, f"worker-{one}")), one) for one in files]
            await until(lambda: settled(bus) == set(files))
            async with asyncio.timeout(30):
                await scenario(lambda: asyncio.create_task(batcher.classify(MODEL, "address", "NONE", ["a"])), workers)
            for worker in workers:
                await worker.die()

    with ExitStack() as stack:
        asyncio.run(whole())


def settled(bus: Bus) -> set[str | None]:
    return {one.files for one in bus.announcements(MODEL)} if bus.connected else set()


def test_refusal_of_one_worker_stands_once_those_with_other_files_are_gone(bus_url: str) -> None:
    async def scenario(ask: Ask, workers: list[Worker]) -> None:
        old, new = workers
        asked = ask()
        await new.answer(CHANGED)
        await old.die()
        with pytest.raises(Refused, match="other files"):
            await asked
        asked = ask()
        await new.answer(SCORED)
        assert (await asked).scored == list(SCORED.scored)

    with_workers(bus_url, "ab", scenario)


def test_worker_with_further_files_is_asked_once_those_with_others_are_gone(bus_url: str) -> None:
    async def scenario(ask: Ask, workers: list[Worker]) -> None:
        first, second, third = workers
        asked = ask()
        await third.answer(CHANGED)
        await first.die()
        await second.answer(SCORED, second.files)
        assert (await asked).scored == list(SCORED.scored)

    with_workers(bus_url, "abc", scenario)
