import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from app.classification.admission import Load, Overloaded
from app.classification.batcher import Batcher
from app.classification.bus import Bus, DeadlineExceeded, NoWorker, Refused
from app.classification.lines import Answered
from app.contract.messages import ClassifyBatch, ClassifyReply, Failure, PartReply, Request, Scored
from app.contract.names import ErrorCode
from app.contract.plain import PlainContext, PlainLabel
from app.telemetry.metrics import Metrics

REFUSED = "refuse me"
NOT_KEPT = PartReply(failure=Failure(code=ErrorCode.EXAMPLES_NEEDED, message="not kept"))
PLAIN = PlainContext(examples=(("a", "yes"), ("b", "no")), labels=(PlainLabel(name="yes"), PlainLabel(name="no")))


@dataclass
class HandBus(Bus):
    """A bus whose batches wait until `answer` or `fail`; each input is scored by its length, `REFUSED` refused."""

    workers: int = 1
    forgetful: bool = False
    batches: list[ClassifyBatch] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    _held: list[asyncio.Future[str]] = field(default_factory=list)

    def live_workers(self, model: str) -> int:  # noqa: ARG002 - Bus's signature
        return self.workers

    async def call(self, request: Request, seconds: float) -> str:
        assert isinstance(request, ClassifyBatch)
        self.batches.append(request)
        self.seconds.append(seconds)
        self._held.append(asyncio.get_running_loop().create_future())
        return await self._held[-1]

    def sizes(self) -> list[list[int]]:
        """Inputs of each part of each batch."""
        return [[len(part.inputs) for part in batch.parts] for batch in self.batches]

    async def answer(self, number: int) -> None:
        batch = self.batches[number]
        forgotten = self.forgetful and not batch.plain
        parts = tuple(NOT_KEPT if forgotten else _reply(part.inputs) for part in batch.parts)
        reply = ClassifyReply(id=batch.id, worker="worker-1", parts=parts)
        self._held[number].set_result(reply.model_dump_json())
        await settled()

    async def answer_all(self) -> None:
        while waiting := [number for number, held in enumerate(self._held) if not held.done()]:
            await self.answer(waiting[0])

    async def fail(self, number: int, error: Exception) -> None:
        self._held[number].set_exception(error)
        await settled()


def _reply(inputs: tuple[str, ...]) -> PartReply:
    if REFUSED in inputs:
        return PartReply(failure=Failure(code=ErrorCode.INPUT_TOO_LONG, message="too long"))
    return PartReply(scored=tuple(Scored(confidences=(1.0,), tokens=len(text), truncated=False) for text in inputs))


async def settled() -> None:
    """Let every task go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


Ask = Callable[..., asyncio.Task[list[Scored]]]


async def scored(answered: Awaitable[Answered]) -> list[Scored]:
    return (await answered).scored


def with_batcher(
    scenario: Callable[[HandBus, Ask], Awaitable[None]],
    size: int = 4,
    pending: int = 100,
    timeout: float = 30,
    most_bytes: int = 10**6,
    max_wait: float = 30,
) -> None:
    """Run a scenario with a bus in its hand and a function that begins to classify inputs of given lengths."""

    async def run() -> None:
        bus = HandBus("unix:///nowhere")
        batcher = Batcher(bus, size, Load(pending, most_bytes), max_wait, timeout, Metrics())
        errors: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, error: errors.append(error))

        def ask(
            *inputs: str | int, model: str = "tiny", context: str | PlainContext = "address"
        ) -> asyncio.Task[list[Scored]]:
            written = ["x" * one if isinstance(one, int) else one for one in inputs]
            return asyncio.create_task(scored(batcher.classify(model, context, "NONE", written)))

        await scenario(bus, ask)
        await bus.answer_all()
        lines = [line for both in batcher._models.values() for line in (both.small, both.large)]
        assert [(line.waiting, len(line.requests), len(line.batches)) for line in lines] == [((0, 0), 0, 0)] * len(
            lines
        )
        assert errors == []
        await bus.stop()

    asyncio.run(run())


def test_lone_request_leaves_at_once() -> None:
    async def scenario(bus: HandBus, ask: Ask) -> None:
        answer = ask(3)
        await settled()
        assert bus.sizes() == [[1]]
        await bus.answer(0)
        assert [one.tokens for one in await answer] == [3]

    with_batcher(scenario)


def test_requests_that_arrive_while_the_workers_are_busy_share_a_batch() -> None:
    async def scenario(bus: HandBus, ask: Ask) -> None:
        answers = []
        for length in range(1, 7):
            answers.append(ask(length))
            await settled()
        assert bus.sizes() == [[1], [1, 1, 1, 1]]  # the second as soon as it was full
        await bus.answer(0)
        assert bus.sizes() == [[1], [1, 1, 1, 1]]
        await bus.answer(1)
        assert bus.sizes() == [[1], [1, 1, 1, 1], [1]]
        await bus.answer_all()
        assert [[one.tokens for one in await answer] for answer in answers] == [[n] for n in range(1, 7)]

    with_batcher(scenario)


def test_second_batch_that_is_not_full_waits_for_the_first_and_for_company() -> None:
    async def scenario(bus: HandBus, ask: Ask) -> None:
        first, second = ask(1), ask(2)
        await settled()
        third = ask(3)
        await settled()
        assert bus.sizes() == [[1]]
        await bus.answer(0)
        assert bus.sizes() == [[1], [1, 1]]
        await bus.answer_all()
        assert [[one.tokens for one in await answer] for answer in (first, second, third)] == [[1], [2], [3]]

    with_batcher(scenario)


def test_large_request_is_split_and_its_answers_keep_their_order() -> None:
    async def scenario(bus: HandBus, ask: Ask) -> None:
        answer = ask(*range(1, 11))
        await settled()
        assert bus.sizes() == [[4], [4]]
        await bus.answer(1)
        await bus.answer(0)
        assert bus.sizes() == [[4], [4], [2]]
        assert [part.first for batch in bus.batches for part in batch.parts] == [0, 4, 8]
        assert not answer.done()
        await bus.answer(2)
        assert [one.tokens for one in await answer] == list(range(1, 11))

    with_batcher(scenario)


def test_requests_take_turns() -> None:
    async def scenario(bus: HandBus, ask: Ask) -> None:
        larger = ask(*[1] * 40)
        await settled()
        large = ask(*[7] * 9)
        await settled()
        await bus.answer(0)
        assert bus.sizes()[2] == [2, 2]
        await bus.answer_all()
        assert (len(await larger), len(await large)) == (40, 9)

    with_batcher(scenario)


def test_small_requests_do_not_wait_for_the_batches_of_large_ones() -> None:
    async def scenario(bus: HandBus, ask: Ask) -> None:
        large = ask(*[1] * 40)
        await settled()
        first, second, third = ask(2), ask(3, 3), ask(4)
        await settled()
        assert bus.sizes() == [[8], [8], [1]]  # one at a time: what comes meanwhile forms the next
        await bus.answer(2)
        assert bus.sizes()[3:] == [[2]]  # a quarter of a batch, since large ones are under way
        await bus.answer(3)
        assert bus.sizes()[4:] == [[1]]
        await bus.answer(4)
        assert [batch.small for batch in bus.batches] == [False, False, True, True, True]
        assert first.done()
        assert second.done()
        assert third.done()
        await bus.answer_all()
        assert len(await large) == 40

    with_batcher(scenario, size=8)


def test_small_requests_are_not_split_where_they_fit() -> None:
    async def scenario(bus: HandBus, ask: Ask) -> None:
        large = ask(*[1] * 80)
        await settled()
        small = [ask(2) for _ in range(3)] + [ask(*[3] * 3) for _ in range(2)]
        await settled()
        await bus.answer(2)
        assert bus.sizes() == [[32], [32], [1], [1, 1, 3, 3]]
        await bus.answer_all()
        assert [len(await answer) for answer in (large, *small)] == [80, 1, 1, 1, 3, 3]

    with_batcher(scenario, size=32)


def test_small_requests_are_not_refused_for_large_ones_nor_large_ones_for_small() -> None:
    async def scenario(bus: HandBus, ask: Ask) -> None:
        large = [ask(*[1] * 10) for _ in range(3)]  # 18 of them leave at once
        small = [ask(2) for _ in range(15)]  # 3
        await settled()
        refused = ask(*[1] * 9), ask(2)
        await settled()
        for one in refused:
            with pytest.raises(Overloaded):
                await one
        await bus.answer_all()
        assert [len(await answer) for answer in (*large, *small)] == [10] * 3 + [1] * 15

    with_batcher(scenario, size=9, pending=12)


def test_batch_lives_as_long_as_the_latest_of_its_requests() -> None:
    async def scenario(bus: HandBus, ask: Ask) -> None:
        busy = ask(*[1] * 128)
        await settled()
        several = ask(*[1] * 65), ask(*[1] * 9)
        await settled()
        await bus.answer(0)
        assert bus.sizes()[2] == [32, 9, 23]
        assert round(bus.seconds[2] / 1000) == 2
        await bus.answer_all()
        assert [len(await answer) for answer in (busy, *several)] == [128, 65, 9]

    with_batcher(scenario, size=64, pending=300, timeout=1000)


def test_small_requests_never_join_a_batch_of_large_ones() -> None:
    async def scenario(bus: HandBus, ask: Ask) -> None:
        large = ask(*[1] * 40)
        await settled()
        small = [ask(2) for _ in range(3)]
        await settled()
        await bus.answer(0)
        await bus.answer(1)
        assert bus.sizes() == [[4], [4], [1], [4], [4]]
        assert [batch.small for batch in bus.batches] == [False, False, True, False, False]
        await bus.answer_all()
        assert [len(await answer) for answer in (large, *small)] == [40, 1, 1, 1]

    with_batcher(scenario)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_small_requests_have_a_batch_for_each_worker_beside_large_ones(workers: int) -> None:
    async def scenario(bus: HandBus, ask: Ask) -> None:
        bus.workers = workers
        large = ask(*[1] * 80)
        await settled()
        small = []
        for _ in range(5):
            small.append(ask(2))
            await settled()
        assert sum(batch.small for batch in bus.batches) == max(1, workers)
        await bus.answer_all()
        assert [len(await answer) for answer in (large, *small)] == [80, 1, 1, 1, 1, 1]

    with_batcher(scenario, size=8)


@pytest.mark.parametrize(
    ("inputs", "small"), [([1] * 8, True), ([1] * 9, False), ([4096], True), ([4097], False), ([2048, 2049], False)]
)
def test_small_requests_have_few_inputs_and_few_characters(inputs: list[int], small: bool) -> None:
    async def scenario(bus: HandBus, ask: Ask) -> None:
        answer = ask(*inputs)
        await settled()
        assert {batch.small for batch in bus.batches} == {small}
        await bus.answer_all()
        assert len(await answer) == len(inputs)

    with_batcher(scenario)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_each_worker_has_two_batches_at_most(workers: int) -> None:
    async def scenario(bus: HandBus, ask: Ask) -> None:
        bus.workers = workers
        answer = ask(*[1] * 80)
        await settled()
        assert len(bus.batches) == 2 * max(1, workers)
        await bus.answer_all()
        assert len(await answer) == 80

    with_batcher(scenario)


def test_more_than_may_wait_is_refused_and_nothing_of_it_is_sent() -> None:
    async def scenario(bus: HandBus, ask: Ask) -> None:
        waiting = ask(*[1] * 12)  # 8 of them leave at once
        await settled()
        refused, taken = ask(*[2] * 9), ask(*[3] * 8)
        await settled()
        with pytest.raises(Overloaded):
            await refused
        await bus.answer_all()
        assert len(await waiting) == 12
        assert [one.tokens for one in await taken] == [3] * 8
        assert not [text for batch in bus.batches for part in batch.parts for text in part.inputs if text == "xx"]

    with_batcher(scenario, pending=12)


def test_failing_batch_fails_every_future() -> None:
    async def scenario(bus: HandBus, ask: Ask) -> None:
        other = ask(1)
        await settled()
        together = [ask(2), ask(3)]
        await settled()
        await bus.answer(0)
        assert bus.sizes()[1] == [1, 1]
        await bus.fail(1, NoWorker("tiny"))
        for answer in together:
            with pytest.raises(NoWorker):
                await answer
        assert len(await other) == 1
        after = ask(5)
        await settled()
        await bus.answer(2)
        assert [one.tokens for one in await after] == [5]

    with_batcher(scenario)


def test_reply_that_cannot_be_read_fails_every_future() -> None:
    async def scenario(bus: HandBus, ask: Ask) -> None:
        answer = ask(1)
        await settled()
        bus._held[0].set_result('{"id": "batch_1", "parts": [{"scored": "?"}]}')
        with pytest.raises(ValueError, match="scored"):
            await answer

    with_batcher(scenario)


def test_failing_part_fails_only_its_request() -> None:
    async def scenario(bus: HandBus, ask: Ask) -> None:
        first = ask(1)
        await settled()
        bad, good = ask(1, REFUSED), ask(4, 4)
        await settled()
        await bus.answer(0)
        assert bus.sizes()[1] == [2, 2]
        await bus.answer(1)
        with pytest.raises(Refused) as caught:
            await bad
        assert caught.value.failure.code == "input_too_long"
        assert [one.tokens for one in await good] == [4, 4]
        assert len(await first) == 1

    with_batcher(scenario)


def test_inputs_of_a_refused_request_that_still_wait_are_not_sent() -> None:
    async def scenario(bus: HandBus, ask: Ask) -> None:
        answer = ask(REFUSED, *[1] * 39)
        await settled()
        await bus.answer(0)
        with pytest.raises(Refused):
            await answer
        await bus.answer(1)
        assert bus.sizes() == [[4], [4]]

    with_batcher(scenario)


def test_inputs_of_a_caller_who_has_gone_are_not_sent() -> None:
    async def scenario(bus: HandBus, ask: Ask) -> None:
        busy = ask(*[1] * 8)
        await settled()
        gone, stays = ask(2, 2), ask(3)
        await settled()
        gone.cancel()
        await bus.answer_all()
        assert bus.sizes() == [[4], [4], [1]]
        assert len(await busy) == 8
        assert [one.tokens for one in await stays] == [3]

    with_batcher(scenario)


def test_answer_that_does_not_come_in_time_is_a_missed_deadline() -> None:
    async def scenario(bus: HandBus, ask: Ask) -> None:
        with pytest.raises(DeadlineExceeded):
            await ask(1)
        await bus.answer(0)  # too late, and to nobody's harm
        assert bus.seconds[0] <= 0.05

    with_batcher(scenario, timeout=0.05)


@pytest.mark.parametrize(("inputs", "times"), [(1, 1), (64, 1), (65, 2), (1024, 16)])
def test_many_inputs_have_more_time(inputs: int, times: int) -> None:
    async def scenario(bus: HandBus, ask: Ask) -> None:
        answer = ask(*[1] * inputs)
        await settled()
        assert {round(seconds / 1000) for seconds in bus.seconds} == {times}
        await bus.answer_all()
        assert len(await answer) == inputs

    with_batcher(scenario, timeout=1000, pending=1024)


def test_models_do_not_hold_each_other_up() -> None:
    async def scenario(bus: HandBus, ask: Ask) -> None:
        slow = ask(*[1] * 40)
        await settled()
        other = ask(2, model="other")
        await settled()
        assert [batch.model for batch in bus.batches] == ["tiny", "tiny", "other"]
        await bus.answer(2)
        assert [one.tokens for one in await other] == [2]
        slow.cancel()

    with_batcher(scenario)


def test_more_bytes_than_may_wait_are_refused() -> None:
    async def scenario(bus: HandBus, ask: Ask) -> None:
        waiting = ask(*[1000] * 12)  # 8 of them leave at once
        await settled()
        refused, taken = ask(*[1000] * 9), ask(*[600] * 9)
        await settled()
        with pytest.raises(Overloaded):
            await refused
        await bus.answer_all()
        assert (len(await waiting), len(await taken)) == (12, 9)

    with_batcher(scenario, most_bytes=10_000)


def test_request_larger_than_all_that_may_wait_is_taken_where_nothing_waits() -> None:
    async def scenario(bus: HandBus, ask: Ask) -> None:
        answer = ask(*[1] * 40)
        await settled()
        await bus.answer_all()
        assert len(await answer) == 40

    with_batcher(scenario, pending=12)


def test_small_request_whose_turn_does_not_come_is_refused_and_not_sent() -> None:
    async def scenario(bus: HandBus, ask: Ask) -> None:
        busy = ask(1)
        await settled()
        unlucky = ask(2)
        with pytest.raises(Overloaded):
            await unlucky
        await bus.answer_all()
        assert bus.sizes() == [[1]]
        assert len(await busy) == 1

    with_batcher(scenario, max_wait=0.05)


def test_examples_go_along_until_the_worker_holds_them_and_again_when_it_does_not() -> None:
    async def scenario(bus: HandBus, ask: Ask) -> None:
        for _ in range(2):
            answer = ask(3, context=PLAIN)
            await settled()
            await bus.answer_all()
            assert [one.tokens for one in await answer] == [3]
        assert [set(batch.plain) for batch in bus.batches] == [{PLAIN.address}, set()]
        bus.forgetful = True
        answer = ask(4, context=PLAIN)
        await settled()
        await bus.answer_all()
        assert [one.tokens for one in await answer] == [4]
        assert [set(batch.plain) for batch in bus.batches[2:]] == [set(), {PLAIN.address}]

    with_batcher(scenario)


def test_examples_are_counted_among_the_bytes_that_wait() -> None:
    async def scenario(bus: HandBus, ask: Ask) -> None:
        first = ask(1)
        await settled()
        waiting = ask(1, context=PLAIN)
        await settled()
        with pytest.raises(Overloaded):
            await ask(1)
        await bus.answer_all()
        await asyncio.gather(first, waiting)

    with_batcher(scenario, most_bytes=len(PLAIN.written))
