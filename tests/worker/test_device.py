import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from threading import Event, Thread, get_ident

import pytest
import torch

from tests.waiting import eventually
from worker.device import Device, DeviceStopped, out_of_memory, unusable_after


@pytest.fixture
def device() -> Iterator[Device]:
    device = Device()
    yield device
    device.stop()


def started(run: Callable[[], object]) -> Thread:
    thread = Thread(target=run, daemon=True)
    thread.start()
    return thread


class Hold:
    """Work that has begun and goes on until it is released."""

    def __init__(self) -> None:
        self.begun, self.release = Event(), Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.release.wait(60)
        return "finished"


def test_all_is_computed_in_one_thread(device: Device) -> None:
    assert device.run(get_ident) == device.run_query(get_ident, small=True) != get_ident()


def test_what_work_returns_or_raises_reaches_whoever_asked(device: Device) -> None:
    assert device.run(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        device.run_query(lambda: 1 // 0, small=True)
    assert device.run(lambda: "it goes on") == "it goes on"


def test_memory_that_the_machine_does_not_have_is_told_from_other_errors(device: Device) -> None:
    with pytest.raises(RuntimeError) as caught:
        device.run(lambda: torch.empty(2**58, dtype=torch.uint8))
    assert out_of_memory(caught.value)
    assert out_of_memory(MemoryError())
    assert out_of_memory(torch.AcceleratorError("CUDA error: out of memory"))
    assert out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    assert not out_of_memory(RuntimeError("shapes do not match"))


class Large:
    """Something that can be watched."""


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("fails", [False, True])
def test_what_was_computed_is_let_go(device: Device, fails: bool) -> None:
    def compute(_: Large) -> None:
        if fails:
            raise ZeroDivisionError

    large = Large()
    watched = weakref.ref(large)
    with suppress(ZeroDivisionError):
        device.run(partial(compute, large))
    del large
    eventually(lambda: watched() is None)


def test_work_is_computed_in_the_order_asked(device: Device) -> None:
    order: list[int] = []
    first = Hold()
    threads = [started(lambda: device.run(first))]
    assert first.begun.wait(60)
    for number in range(5):
        threads.append(started(lambda number=number: device.run(lambda: order.append(number))))  # type: ignore[misc]
        eventually(lambda number=number: len(device._waiting) == number + 1)  # type: ignore[misc]
    first.release.set()
    for thread in threads:
        thread.join(30)
    assert order == [0, 1, 2, 3, 4]


def test_waiting_queries_pass_between_two_pieces_of_work_and_other_work_waits(device: Device) -> None:
    order: list[str] = []

    def tune() -> None:
        order.append("first piece")
        threads.append(started(lambda: device.run(lambda: order.append("other work"))))
        eventually(lambda: len(device._waiting) == 1)
        threads.append(started(lambda: device.run_query(lambda: order.append("query"), small=True)))
        eventually(lambda: len(device._waiting) == 2)
        device.let_queries_pass()
        order.append("second piece")

    threads: list[Thread] = []
    device.run(tune)
    for thread in threads:
        thread.join(30)
    assert order == ["first piece", "query", "second piece", "other work"]


def asked(device: Device, *works: Callable[[], object]) -> list[Thread]:
    """Threads that ask for these works, in their order, of a device that is busy."""
    threads = []
    for number, work in enumerate(works, 1):
        threads.append(started(work))
        eventually(lambda number=number: len(device._waiting) == number)  # type: ignore[misc]
    return threads


def test_small_query_goes_ahead_but_not_twice_in_a_row(device: Device) -> None:
    order: list[str] = []

    def query(name: str, *, small: bool) -> Callable[[], object]:
        return lambda: device.run_query(lambda: order.append(name), small=small)

    hold = Hold()
    threads = [started(lambda: device.run(hold))]
    assert hold.begun.wait(60)
    threads += asked(
        device,
        lambda: device.run(lambda: order.append("tuning")),
        query("large 1", small=False),
        query("large 2", small=False),
        query("small 1", small=True),
        query("small 2", small=True),
        query("small 3", small=True),
    )
    hold.release.set()
    for thread in threads:
        thread.join(30)
    assert order == ["small 1", "tuning", "small 2", "large 1", "small 3", "large 2"]


@pytest.mark.parametrize(
    ("let_pass", "expected"),
    [
        (Device.let_small_query_pass, ["small 1", "second pass", "small 2", "large"]),
        (Device.let_queries_pass, ["small 1", "small 2", "large", "second pass"]),
    ],
)
def test_what_passes_in_between(device: Device, let_pass: Callable[[Device], None], expected: list[str]) -> None:
    order: list[str] = []

    def compute() -> None:
        hold()
        let_pass(device)
        order.append("second pass")

    hold = Hold()
    threads = [started(lambda: device.run(compute))]
    assert hold.begun.wait(60)
    threads += asked(
        device,
        lambda: device.run_query(lambda: order.append("large"), small=False),
        lambda: device.run_query(lambda: order.append("small 1"), small=True),
        lambda: device.run_query(lambda: order.append("small 2"), small=True),
    )
    hold.release.set()
    for thread in threads:
        thread.join(30)
    assert order == expected


def test_small_queries_take_half_of_the_time_at_most() -> None:
    seconds, order = 100.0, list[str]()
    device = Device(clock=lambda: seconds)

    def long_one() -> None:
        nonlocal seconds
        order.append("small 1")
        seconds += 5

    def compute() -> None:
        nonlocal seconds
        hold()
        device.let_small_query_pass()
        seconds += 4
        device.let_small_query_pass()  # the other took five
        order.append("second pass")
        seconds += 1
        device.let_small_query_pass()
        order.append("third pass")

    hold = Hold()
    threads = [started(lambda: device.run_query(compute, small=False))]
    assert hold.begun.wait(60)
    threads += asked(
        device,
        lambda: device.run_query(long_one, small=True),
        lambda: device.run_query(lambda: order.append("small 2"), small=True),
    )
    hold.release.set()
    for thread in threads:
        thread.join(30)
    assert order == ["small 1", "second pass", "small 2", "third pass"]
    device.stop()


def test_nothing_passes_where_nothing_waits(device: Device) -> None:
    def compute() -> str:
        device.let_small_query_pass()
        device.let_queries_pass()
        return "computed"

    assert device.run(compute) == "computed"


def test_query_that_fails_in_between_leaves_the_work_alone(device: Device) -> None:
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            device.run_query(lambda: 1 // 0, small=True)
        except ZeroDivisionError as error:
            failures.append(error)

    def tune() -> str:
        asking = started(ask)
        eventually(lambda: len(device._waiting) == 1)
        device.let_queries_pass()
        asking.join(30)
        return "tuned"

    assert device.run(tune) == "tuned"
    assert len(failures) == 1


def test_stopped_device_finishes_what_it_computes_and_refuses_the_rest(device: Device) -> None:
    results: list[object] = []
    held = Hold()

    def ask() -> None:
        try:
            results.append(device.run(lambda: 1))
        except DeviceStopped as error:
            results.append(error)

    running = started(lambda: results.append(device.run(held)))
    assert held.begun.wait(60)
    waiting = started(ask)
    eventually(lambda: len(device._waiting) == 1)
    device.stop()
    waiting.join(30)
    held.release.set()
    running.join(30)
    assert [type(results[0]), results[1]] == [DeviceStopped, "finished"]
    with pytest.raises(DeviceStopped):
        device.run(lambda: 2)


ASSERTED = (
    "CUDA error: device-side assert triggered\n"
    "CUDA kernel errors might be asynchronously reported at some other API call"
)


@pytest.mark.parametrize(
    ("error", "unusable"),
    [
        (RuntimeError(ASSERTED), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), True),
        (torch.AcceleratorError("CUDA error: unspecified launch failure"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(handle)`"), True),
        (torch.AcceleratorError("CUDA error: out of memory"), False),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), False),
        (RuntimeError("CUDA error: invalid configuration argument"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("CUDA error: device-side assert triggered"), False),
    ],
)
def test_errors_after_which_cuda_takes_no_more_work_of_the_process(error: Exception, unusable: bool) -> None:
    assert unusable_after(error) is unusable


@pytest.mark.parametrize("query", [False, True])
def test_device_says_that_it_takes_no_more_work_and_why(query: bool) -> None:
    device = Device()

    def fail() -> None:
        raise RuntimeError(ASSERTED)

    with pytest.raises(RuntimeError, match="device-side assert"):
        device.run_query(fail, small=True) if query else device.run(fail)
    assert device.unusable == "CUDA error: device-side assert triggered"
    assert device.alive
    device.stop()
