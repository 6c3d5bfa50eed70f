"""Small smooth problems: where they end, and on how many threads."""

import pytest
import torch
from torch import Tensor

from worker.cpt.scoring.minimise import minimise

pytestmark = pytest.mark.usefixtures("two_threads")


class _Offered:
    """Notes the threads of each offer; the offer of this number, if there is one, fails."""

    def __init__(self, failing: int | None = None) -> None:
        self.threads: list[int] = []
        self._failing = failing

    def offer(self, _: float | None = None, /) -> None:
        self.threads.append(torch.get_num_threads())
        if len(self.threads) == self._failing:
            raise RuntimeError("stopped")


def test_least_value_is_found_in_float64() -> None:
    target = torch.tensor([1.0, -2.0, 3.0])
    (found,) = minimise(lambda x: (x - target).square().sum(), torch.zeros(3))
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, target.double())


def test_loss_runs_on_one_thread_and_what_is_let_ahead_on_all() -> None:
    threads, offered = [], _Offered()

    def loss(x: Tensor) -> Tensor:
        threads.append(torch.get_num_threads())
        return (x - 1).square().sum()

    minimise(loss, torch.zeros(3), turn=offered)
    assert set(threads) == {1}
    assert offered.threads == [2] * len(threads)
    assert torch.get_num_threads() == 2


def test_threads_are_as_before_after_an_offer_that_ends_the_work() -> None:
    with pytest.raises(RuntimeError, match="stopped"):
        minimise(lambda x: (x - 1).square().sum(), torch.zeros(3), turn=_Offered(failing=2))
    assert torch.get_num_threads() == 2
