"""What a request to a door counts: in its key's limits and in the usage of its tenant."""

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from app.config import Settings
from app.contract.access import Scope
from app.contract.messages import ClassifyReply, PartReply, Scored
from tests.app.access.gateway import Service, serve
from tests.app.gateway import until_served
from tests.app.standin import MODEL, StandIn

QUESTIONS = [
    {"type": "predicate", "name": f"q{number}", "instructions": f"Is it about topic {number}?"} for number in range(12)
]
ONE_CHOICE = {"type": "choice", "name": "q", "instructions": "Which?", "choices": [{"value": "x"}]}
TOKENS = 5


@pytest.fixture
def settings(store_url: str, bus_url: str, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, store_url=store_url, bus_url=bus_url, models=(MODEL,))


@contextmanager
def answering(url: str) -> Iterator[None]:
    """A stand-in for a worker that finds every label of a question as likely as the others."""
    stopped = Event()

    def work() -> None:
        with StandIn(url) as worker:
            while not stopped.is_set():
                worker.announce()
                try:
                    request = worker.take(0.5)
                except queue.Empty:
                    continue
                one = Scored(confidences=(0.5, 0.5), tokens=TOKENS, truncated=False)
                parts = tuple(PartReply(scored=(one,) * len(part["inputs"])) for part in request["parts"])
                worker.say(request, ClassifyReply(id=request["id"], parts=parts))

    thread = Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(30)


@pytest.mark.parametrize(("questions", "tokens"), [(QUESTIONS, len(QUESTIONS) * TOKENS), ([ONE_CHOICE], 0)])
def test_text_is_one_input_of_one_request_whatever_is_asked_about_it(
    settings: Settings, questions: list[dict[str, Any]], tokens: int
) -> None:
    async def scenario(service: Service) -> None:
        key = service.key(Scope.CLASSIFY, Scope.READ, inputs_per_minute=5)
        await until_served(service.http, MODEL)
        body = {"model": MODEL, "input": "hello", "questions": questions}
        answered = await service.ask(key, "POST", "/v1/decisions", json=body)
        assert answered.status_code == 200
        assert answered.json()["usage"]["input_tokens"] == tokens
        assert '"inputs";r=4;' in answered.headers["ratelimit"]
        (day,) = (await service.ask(key, "GET", "/usage")).json()["data"]
        assert (day["requests"], day["inputs"], day["input_tokens"]) == (1, 1, tokens)

    with answering(settings.bus_url or ""):
        serve(settings, scenario)
