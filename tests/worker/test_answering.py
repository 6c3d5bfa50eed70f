"""Answering on a real bus: copies, deadlines, clocks and formats."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from app.contract.announcements import BusClock
from app.contract.messages import MESSAGE_FORMAT, ClassifyBatch, ClassifyReply, Message, Refusal, Started
from tests.worker.hearing import CHANNEL, heard
from worker.answering import Answering
from worker.bus import WorkerBus


class Worker:
    """Answers batches, counting those that it computes; its clock is ``ahead`` of others by so many seconds."""

    def __init__(self, url: str, worker_id: str = "worker-1", ahead: float = 0) -> None:
        self.bus = WorkerBus(url, worker_id, BusClock(lambda: time.monotonic() + ahead))
        self.bus.announce([])
        self._answering = Answering(self.bus, worker_id)
        self.computed: list[str] = []
        self.copy_while_computing: str | None = None

    def answer(self, payload: str) -> None:
        self._answering.answer(ClassifyBatch, payload, self._compute)

    def _compute(self, batch: ClassifyBatch) -> Message:
        self.computed.append(batch.id)
        if self.copy_while_computing is not None:
            self.answer(self.copy_while_computing)
        return ClassifyReply(id=batch.id)


@pytest.fixture
def worker(bus_url: str) -> Iterator[Worker]:
    worker = Worker(bus_url)
    yield worker
    worker.bus.close()


@pytest.fixture
def other(bus_url: str) -> Iterator[Worker]:
    worker = Worker(bus_url, "worker-2")
    yield worker
    worker.bus.close()


def batch(client: redis.Redis, batch_id: str = "batch_1", expires_in: float = 60, **fields: Any) -> str:
    seconds, microseconds = client.time()
    expires_at = seconds + microseconds / 1e6 + expires_in
    return ClassifyBatch(
        id=batch_id, reply_to=CHANNEL, model="tiny", expires_at=expires_at, small=True, parts=(), **fields
    ).model_dump_json()


def test_copy_that_comes_while_the_first_is_computed_is_dropped(
    worker: Worker, bus_client: redis.Redis, replies: Any
) -> None:
    worker.copy_while_computing = batch(bus_client, turn=1)
    worker.answer(batch(bus_client))
    assert worker.computed == ["batch_1"]
    for _ in range(2):
        assert Started.model_validate_json(heard(replies)).started_by == "worker-1"
    assert ClassifyReply.model_validate_json(heard(replies)).id == "batch_1"
    assert replies.get_message(timeout=0.1) is None


def test_copy_that_comes_later_is_replied_to_but_not_computed_again(
    worker: Worker, bus_client: redis.Redis, replies: Any
) -> None:
    for turn in range(2):
        worker.answer(batch(bus_client, turn=turn))
    assert worker.computed == ["batch_1"]
    heard(replies)
    assert heard(replies) == heard(replies)


def test_of_the_copies_in_one_turn_one_worker_computes_one(
    worker: Worker, other: Worker, bus_client: redis.Redis
) -> None:
    worker.answer(batch(bus_client))
    other.answer(batch(bus_client))
    assert (worker.computed, other.computed) == (["batch_1"], [])
    other.answer(batch(bus_client, turn=1))  # the first worker died over it, says the gateway
    assert other.computed == ["batch_1"]


def test_old_replies_are_forgotten(worker: Worker, bus_client: redis.Redis) -> None:
    for number in range(100):
        worker.answer(batch(bus_client, f"batch_{number}"))
    worker.answer(batch(bus_client, "batch_0", turn=1))
    assert len(worker.computed) == 101


def test_request_that_fails_may_be_begun_again(worker: Worker, bus_client: redis.Redis) -> None:
    worker.copy_while_computing = "not even JSON"

    def fail(batch: ClassifyBatch) -> Message:
        raise RuntimeError(batch.id)

    with pytest.raises(RuntimeError):
        worker._answering.answer(ClassifyBatch, batch(bus_client), fail)
    worker.answer(batch(bus_client, turn=1))
    assert worker.computed == ["batch_1"]


@pytest.mark.parametrize("ahead", [-300, 0, 45, 60, 300])
def test_clock_of_the_machine_does_not_matter(bus_url: str, bus_client: redis.Redis, ahead: float) -> None:
    worker = Worker(bus_url, ahead=ahead)
    worker.answer(batch(bus_client, "batch_late", expires_in=-1))
    worker.answer(batch(bus_client, "batch_in_time", expires_in=5))
    worker.bus.close()
    assert worker.computed == ["batch_in_time"]


def test_request_of_a_newer_format_is_refused_by_name(worker: Worker, bus_client: redis.Redis, replies: Any) -> None:
    newer = batch(bus_client).replace(f'"format":{MESSAGE_FORMAT}', f'"format":{MESSAGE_FORMAT + 1}')
    worker.answer(newer)
    assert worker.computed == []
    refusal = Refusal.model_validate_json(heard(replies)).refusal
    assert refusal.code == "no_worker"
    assert "ClassifyBatch has format 2, of a newer release; this one reads up to 1" in refusal.message
    worker.answer(batch(bus_client, "batch_2"))
    assert worker.computed == ["batch_2"]


def test_unknown_fields_of_a_request_are_ignored(worker: Worker, bus_client: redis.Redis) -> None:
    worker.answer(batch(bus_client).replace('"small":true', '"small":true,"hurry":{"much":true}'))
    assert worker.computed == ["batch_1"]


def test_request_without_an_envelope_is_dropped(worker: Worker, bus_client: redis.Redis) -> None:
    for payload in ("", "{}", "[]", '{"id": 7, "reply_to": "replies"}'):
        worker.answer(payload)
    worker.answer(batch(bus_client))
    assert worker.computed == ["batch_1"]


def test_request_is_computed_although_the_bus_is_gone(tmp_path: Any) -> None:
    bus = WorkerBus(f"unix://{tmp_path}/none", "here")
    computed: list[str] = []

    def compute(batch: ClassifyBatch) -> Message:
        computed.append(batch.id)
        return ClassifyReply(id=batch.id)

    request = ClassifyBatch(id="batch_1", reply_to=CHANNEL, model="tiny", expires_at=1.0, small=True, parts=())
    Answering(bus, "worker-1").answer(ClassifyBatch, request.model_dump_json(), compute)
    assert computed == ["batch_1"]
