"""Admission with a clock in the test's hand."""

import pytest

from app.classification.admission import Admission, Load, Overloaded, Throughput


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


MOST = Load(4096, 10**6)


def measured(clock: Clock, rate: float, most: Load = MOST) -> Admission:
    """An admission to a line that has answered so many inputs a second for long, and goes on to."""
    admission = Admission(most, clock)
    admission.throughput.note_busy()
    for _ in range(60):
        clock.now += 1
        admission.throughput.note(int(rate), busy=True)
    return admission


def refused(admission: Admission, request: int, waiting: int, seconds: float = 10) -> float | None:
    """Seconds after which a request of so many inputs may come again; None if it is admitted."""
    try:
        admission.admit(Load(request, request), Load(waiting, waiting), seconds)
    except Overloaded as error:
        return error.retry_after
    return None


def test_rate_is_that_of_busy_times() -> None:
    clock = Clock()
    throughput = Throughput(clock)
    throughput.note(1, busy=False)  # at leisure
    assert str(throughput.rate) == "None"
    throughput.note_busy()
    clock.now += 2
    throughput.note_busy()
    throughput.note(128, busy=False)
    assert throughput.rate == 64
    clock.now += 1000
    throughput.note(1, busy=False)
    assert throughput.rate == 64


def test_rate_follows_a_change_within_seconds_and_falls_while_nothing_is_answered() -> None:
    clock = Clock()
    throughput = measured(clock, rate=100).throughput
    assert throughput.rate == pytest.approx(100)
    for _ in range(15):
        clock.now += 1
        throughput.note(20, busy=True)
    assert throughput.rate == pytest.approx(20, rel=0.6)
    clock.now += 30
    assert (throughput.rate or 0) < 10


def test_until_a_rate_is_measured_only_the_bounds_on_what_waits_hold() -> None:
    admission = Admission(Load(100, 1000), Clock())
    assert refused(admission, 1, waiting=99) is None
    assert refused(admission, 2, waiting=99) == 1.0
    with pytest.raises(Overloaded):
        admission.admit(Load(1, 500), Load(1, 501), 10)


def test_request_that_would_wait_too_long_is_refused_until_it_would_not() -> None:
    clock = Clock()
    admission = measured(clock, rate=50)
    assert refused(admission, 1, waiting=499) is None
    assert refused(admission, 1, waiting=600) == pytest.approx(2)
    assert refused(admission, 1, waiting=600, seconds=60) is None


def test_lone_request_is_admitted_whatever_it_weighs() -> None:
    admission = Admission(Load(10, 10), Clock())
    assert refused(admission, 1024, waiting=0) is None


def test_those_who_are_refused_are_told_to_come_back_one_after_the_other() -> None:
    clock = Clock()
    admission = measured(clock, rate=50)
    waits = [refused(admission, 5, waiting=510) for _ in range(20)]
    assert waits == pytest.approx([0.2 + 0.1 * number for number in range(20)])
    clock.now += 60
    assert refused(admission, 5, waiting=100_000) == 60.0


def test_room_that_only_bytes_lack_is_told_too() -> None:
    clock = Clock()
    admission = measured(clock, rate=10, most=Load(4096, 1000))
    with pytest.raises(Overloaded) as caught:
        admission.admit(Load(1, 100), Load(20, 1000), 60)
    assert caught.value.retry_after == pytest.approx(0.2)  # two inputs of 50 bytes
