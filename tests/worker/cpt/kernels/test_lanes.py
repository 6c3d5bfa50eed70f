"""Passes side by side."""

import threading

import pytest
import torch

from worker.cpt.kernels.lanes import lanes, side_by_side

pytestmark = pytest.mark.usefixtures("two_threads")


def test_results_come_in_order_whatever_ends_first() -> None:
    first_may_end = threading.Event()

    def first() -> str:
        assert first_may_end.wait(60)
        return "first"

    def second() -> str:
        first_may_end.set()
        return "second"

    assert side_by_side([first, second]) == ["first", "second"]


def test_each_has_one_core_and_the_caller_as_many_as_before() -> None:
    before = torch.get_num_threads()
    assert side_by_side([torch.get_num_threads, torch.get_num_threads]) == [1, 1]
    found: list[int] = []
    new = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    new.start()
    new.join()
    assert [torch.get_num_threads(), *found] == [before, before]


def test_single_piece_of_work_runs_here_on_all_cores() -> None:
    found = side_by_side([lambda: (threading.current_thread(), torch.get_num_threads())])
    assert found == [(threading.current_thread(), torch.get_num_threads())]


def test_failure_is_raised_once_all_have_ended() -> None:
    ended = threading.Event()
    failed = threading.Event()

    def fail() -> None:
        failed.set()
        raise ValueError("no")

    def end() -> None:
        assert failed.wait(60)
        ended.set()

    with pytest.raises(ValueError, match="no"):
        side_by_side([fail, end])
    assert ended.is_set()


def test_only_cpus_have_several() -> None:
    assert lanes(torch.device("cpu")) == torch.get_num_threads()
    assert lanes(torch.device("meta")) == 1
