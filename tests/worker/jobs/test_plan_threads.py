"""Plan requests through a real bus, sent as a gateway sends them."""

import asyncio
from collections.abc import Iterator
from threading import Event

import pytest

from app.classification.bus import Bus
from app.contract.names import PLAN_TASK, plan_queue
from app.standalone.embedded import EmbeddedServer
from tests.waiting import eventually
from worker.jobs.plan_threads import PlanThreads


class Answers:
    """What was asked; the first waits until it may end."""

    def __init__(self) -> None:
        self.payloads: list[str] = []
        self.go = Event()

    def answer(self, payload: str) -> None:
        self.payloads.append(payload)
        if payload == "slow":
            assert self.go.wait(60)
        if payload == "bad":
            raise ValueError(payload)


@pytest.fixture
def answers() -> Iterator[Answers]:
    answers = Answers()
    yield answers
    answers.go.set()


def send(url: str, *payloads: str, model: str = "tiny") -> None:
    async def scenario() -> None:
        bus = Bus(url)
        for payload in payloads:
            await bus.send(PLAN_TASK, plan_queue(model), payload)
        await bus.stop()

    asyncio.run(scenario())


def test_plans_of_all_models_are_answered_whatever_one_does(bus_url: str, answers: Answers) -> None:
    threads = PlanThreads(bus_url, ["tiny", "other"], {PLAN_TASK: answers.answer})
    threads.start()
    send(bus_url, "slow", "bad", "good")
    send(bus_url, "another", model="other")
    eventually(lambda: sorted(answers.payloads) == ["another", "bad", "good", "slow"])
    assert threads.alive
    answers.go.set()
    threads.stop()
    assert not threads.alive


def test_plans_are_answered_again_after_a_restart_of_the_bus(another_server: EmbeddedServer, answers: Answers) -> None:
    threads = PlanThreads(another_server.url, ["tiny"], {PLAN_TASK: answers.answer})
    threads.start()
    send(another_server.url, "before")
    eventually(lambda: answers.payloads == ["before"])
    another_server.stop()
    another_server.start()
    eventually(another_server.answers)
    send(another_server.url, "after")
    eventually(lambda: answers.payloads == ["before", "after"])
    threads.stop()
