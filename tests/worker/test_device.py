from threading import Event, Thread

import pytest

from tests.waiting import eventually
from worker.device import DeviceGate


def started(run: object) -> Thread:
    thread = Thread(target=run, daemon=True)  # type: ignore[arg-type]
    thread.start()
    return thread


def test_one_computes_at_a_time() -> None:
    gate, inside, most = DeviceGate(), [0], [0]

    def compute(use: object) -> None:
        for _ in range(200):
            with use():  # type: ignore[operator]
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    threads = [started(lambda use=use: compute(use)) for use in [gate.classifying] * 3 + [gate.tuning] * 3]
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert most == [1]


def test_waiting_query_has_the_device_between_two_chunks() -> None:
    gate, order = DeviceGate(), []

    def query() -> None:
        with gate.classifying():
            order.append("query")

    with gate.tuning():
        order.append("chunk")
        thread = started(query)
        eventually(lambda: gate._queries_waiting == 1)
        gate.let_queries_pass()
        order.append("chunk")
    thread.join(30)
    assert order == ["chunk", "query", "chunk"]


def test_tuning_keeps_the_device_when_nobody_waits() -> None:
    gate = DeviceGate()
    with gate.tuning():
        gate.let_queries_pass()
        assert gate._busy


def test_queries_go_before_tuning_that_came_first() -> None:
    gate, order, release = DeviceGate(), [], Event()

    def hold() -> None:
        with gate.classifying():
            release.wait(30)

    def tune() -> None:
        with gate.tuning():
            order.append("tuning")

    def query() -> None:
        with gate.classifying():
            order.append("query")

    holder = started(hold)
    eventually(lambda: gate._busy)
    tuner = started(tune)
    asker = started(query)
    eventually(lambda: gate._queries_waiting == 1)
    release.set()
    for thread in (holder, tuner, asker):
        thread.join(30)
    assert order == ["query", "tuning"]


def test_tuning_moves_although_queries_never_stop() -> None:
    gate, enough = DeviceGate(), Event()

    def keep_asking() -> None:
        while not enough.is_set():
            with gate.classifying():
                enough.wait(0.01)

    threads = [started(keep_asking) for _ in range(3)]
    eventually(lambda: gate._busy)
    with gate.tuning():
        enough.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


@pytest.mark.parametrize("use", ["classifying", "tuning"])
def test_device_is_free_again_after_a_failure(use: str) -> None:
    gate = DeviceGate()
    with pytest.raises(RuntimeError), getattr(gate, use)():
        raise RuntimeError
    with gate.classifying():
        pass
    with gate.tuning():
        pass
