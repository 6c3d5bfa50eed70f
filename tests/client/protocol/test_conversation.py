"""Conversations, played without a network: the test answers each request."""

from collections.abc import Iterator
from typing import Any, TypeVar

import pytest
from contextune.calls import batches, classification, contexts, jobs
from contextune.errors import (
    ContextuneError,
    InvalidRequestError,
    JobCancelledError,
    JobFailedError,
    NotFoundError,
    RateLimitError,
    RequestTimeoutError,
    ServiceUnreachableError,
    UnexpectedAnswerError,
)
from contextune.protocol.call import Reply, Request
from contextune.protocol.conversation import (
    Conversation,
    Failure,
    Outcome,
    Pause,
    one_call,
    wait_for_end,
)
from contextune.protocol.retry import PATIENCE_SECONDS, RetryPolicy

from tests.client.answers import context, ended, job, problem, reply

T = TypeVar("T")
BROKEN = Failure(ServiceUnreachableError("cut off"))
EXAMPLES = [("a", "yes"), ("b", "no")]
POLICY = RetryPolicy(attempts=3, random=lambda: 1.0)


class Played:
    """What a conversation asked for and how long it paused; ``clock`` moves with its pauses and long polls."""

    def __init__(self, *outcomes: Outcome, at_once: bool = False) -> None:
        self.outcomes: Iterator[Outcome] = iter(outcomes)
        self.at_once = at_once
        self.requests: list[Request] = []
        self.clock = 0.0

    def now(self) -> float:
        return self.clock

    def play(self, conversation: Conversation[T]) -> T:
        outcome: Outcome = None
        while True:
            try:
                step = conversation.send(outcome)
            except StopIteration as end:
                value: T = end.value
                return value
            if isinstance(step, Pause):
                self.clock += step.seconds
                outcome = None
            else:
                self.requests.append(step)
                outcome = next(self.outcomes)
                if isinstance(outcome, Reply) and outcome.status == 200 and not self.at_once:
                    self.clock += float(step.query.get("wait", 0))


def test_every_attempt_of_a_create_has_the_same_key_and_the_next_create_another() -> None:
    created = reply({"context": context(), "job": job()}, 202)
    keys = []
    for _ in range(2):
        played = Played(BROKEN, problem(503, "no_worker"), created)
        assert played.play(one_call(contexts.create(EXAMPLES), POLICY)).context.id == "ctx_1"
        (key,) = {request.headers["idempotency-key"] for request in played.requests}
        assert len(played.requests) == 3
        keys.append(key)
    assert keys[0] != keys[1]


def test_key_of_the_caller_is_used() -> None:
    played = Played(reply({"context": context(), "job": job()}, 202))
    played.play(one_call(contexts.create(EXAMPLES, idempotency_key="mine"), POLICY))
    assert played.requests[0].headers["idempotency-key"] == "mine"


def test_reading_has_no_idempotency_key() -> None:
    played = Played(reply(context()))
    played.play(one_call(contexts.get("intents"), POLICY))
    assert "idempotency-key" not in played.requests[0].headers


def test_hint_of_the_service_is_waited_for() -> None:
    played = Played(problem(429, "overloaded", retry_after="2", retry_after_ms="1500"), reply(context()))
    played.play(one_call(contexts.get("intents"), RetryPolicy(random=lambda: 0.0)))
    assert played.clock == 1.5


def test_last_failure_is_raised_with_all_that_the_service_said() -> None:
    played = Played(*[problem(429, "quota", retry_after="1")] * 3)
    with pytest.raises(RateLimitError, match=r"it is quota \[429 quota\] \(request req_1\)") as caught:
        played.play(one_call(contexts.get("intents"), POLICY))
    error = caught.value
    assert (error.status, error.code, error.param, error.request_id, error.retry_after) == (
        429, "quota", "/name", "req_1", 1.0,
    )  # fmt: skip


def test_fault_in_the_request_is_not_sent_again() -> None:
    with pytest.raises(InvalidRequestError):
        Played(problem(422, "code_of_a_newer_service")).play(one_call(contexts.get("intents"), POLICY))


@pytest.mark.parametrize("content", [b"<html>", b'{"data": 1}', b"[]"])
def test_answer_of_something_else_is_told_apart(content: bytes) -> None:
    with pytest.raises(UnexpectedAnswerError, match="the answer is no Context"):
        Played(Reply(200, {}, content)).play(one_call(contexts.get("intents"), POLICY))
    with pytest.raises(ContextuneError, match="status 403 that is no problem document"):
        Played(Reply(403, {}, content)).play(one_call(contexts.get("intents"), POLICY))


def test_body_that_can_be_made_once_is_sent_once() -> None:
    def send(source: Any) -> int:
        played = Played(BROKEN, BROKEN, BROKEN)
        with pytest.raises(ServiceUnreachableError):
            played.play(one_call(batches.create("intents", source), POLICY))
        return len(played.requests)

    assert send(["a", "b"]) == 3
    assert send(text for text in "ab") == 1


def wait(played: Played, timeout: float | None = None, **options: Any) -> Any:
    return played.play(wait_for_end(lambda seconds: jobs.get("job_1", wait=seconds), played.now, timeout, **options))


def test_waiting_asks_until_the_job_has_ended() -> None:
    played = Played(reply(job()), reply(job()), reply(ended()))
    assert wait(played).status == "succeeded"
    assert [request.query["wait"] for request in played.requests] == ["25.0"] * 3
    assert all((request.read_seconds or 0) > 25 for request in played.requests)


def test_waiting_rides_through_a_restart_but_not_for_ever() -> None:
    restart: list[Outcome] = [BROKEN, problem(503, "store_unavailable"), problem(504, "deadline_exceeded"), BROKEN] * 3
    assert wait(Played(*restart, reply(ended()))).status == "succeeded"
    played = Played(*[BROKEN] * 1000)
    with pytest.raises(ServiceUnreachableError):
        wait(played)
    assert PATIENCE_SECONDS < played.clock < PATIENCE_SECONDS + 20


def test_waiting_ends_with_its_timeout_and_never_asks_for_longer() -> None:
    played = Played(*[reply(job())] * 9)
    with pytest.raises(RequestTimeoutError, match="not ended within 60 seconds; it goes on"):
        wait(played, timeout=60)
    assert [float(request.query.get("wait", 0)) for request in played.requests] == [25, 25, 10]


@pytest.mark.parametrize("failure", [BROKEN, problem(503, "store_unavailable"), problem(429, "quota", retry_after="9")])
def test_waiting_ends_with_its_timeout_in_an_outage_too(failure: Outcome) -> None:
    played = Played(reply(job()), *[failure] * 99)
    with pytest.raises(RequestTimeoutError, match="within 40 seconds") as caught:
        wait(played, timeout=40)
    assert played.clock == pytest.approx(40)
    assert isinstance(caught.value.__cause__, ContextuneError)
    assert not isinstance(caught.value.__cause__, RequestTimeoutError)
    assert all(float(request.query.get("wait", 0)) < (request.read_seconds or 0) - 4.9 for request in played.requests)
    assert (played.requests[-1].query, played.requests[-1].read_seconds) == ({}, 5.0)


def test_fault_in_a_question_is_no_timeout() -> None:
    with pytest.raises(NotFoundError):
        wait(Played(problem(404, "job_not_found")), timeout=0)


def test_service_that_answers_every_wait_at_once_is_asked_twice_a_second() -> None:
    played = Played(*[reply(job())] * 120, reply(ended()), at_once=True)
    assert wait(played).status == "succeeded"
    assert played.clock == 60
    played = Played(*[reply(job())] * 9, at_once=True)
    with pytest.raises(RequestTimeoutError):
        wait(played, timeout=1.2)
    assert played.clock == pytest.approx(1.2)


def test_job_that_did_not_end_well_is_raised() -> None:
    error = {"code": "worker_lost", "message": "three workers died over it"}
    with pytest.raises(JobFailedError, match="three workers died over it") as caught:
        wait(Played(reply(ended("failed", error=error))))
    assert caught.value.code == "worker_lost"
    with pytest.raises(JobCancelledError, match="job_1 was cancelled"):
        wait(Played(reply(ended("cancelled"))))


def test_progress_is_told() -> None:
    seen: list[str] = []
    played = Played(reply(job()), reply(ended()))
    wait(played, on_progress=lambda one: seen.append(one.status))
    assert seen == ["running", "succeeded"]
    assert played.requests[0].query["wait"] == "1.0"


def test_any_number_of_texts_becomes_requests_that_are_small_enough() -> None:
    texts = [f"text {number}" for number in range(600)] + ["x" * 3_000_000] * 3
    requests = list(classification.requests_of(iter(texts)))
    assert [text for inputs in requests for text in inputs] == texts
    assert [len(inputs) for inputs in requests] == [256, 256, 89, 1, 1]
