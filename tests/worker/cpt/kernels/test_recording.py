"""Recordings, on the CPU, where one does its work anew at the same places."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from worker.cpt.kernels.copies import on_device, on_host
from worker.cpt.kernels.recording import CannotRecord, Recording, Recordings


class Adding:
    """Work that holds a tensor of its own."""

    def __init__(self, number: float = 1) -> None:
        self.number = torch.tensor(number)
        self.done = 0

    def __call__(self, tensor: Tensor) -> tuple[Tensor, ...]:
        self.done += 1
        return (tensor + self.number,)


def test_recording_takes_no_other_shapes() -> None:
    recording = Recording(Adding(), [torch.zeros(2)])
    assert recording(torch.ones(2))[0].tolist() == [2, 2]
    with pytest.raises(ValueError, match="shapes"):
        recording(torch.ones(1))


def test_recording_keeps_its_work_whose_tensors_a_graph_reads_where_they_lie() -> None:
    def recorder(work: Any, inputs: Any, memory: Any) -> tuple[Callable[[], object], tuple[Tensor, ...]]:
        return lambda: None, work(*inputs)

    recording = Recording(Adding(), [torch.zeros(2)], recorder)
    held = weakref.ref(recording._work)
    gc.collect()
    assert held() is not None
    assert recording(torch.zeros(2))[0].tolist() == [1, 1]


@pytest.mark.parametrize(
    "work",
    [
        lambda tensor: (tensor + torch.tensor([1.0, 2.0]),),
        lambda tensor: (tensor * tensor.sum().item(),),
        lambda tensor: (tensor[tensor > 0],),
        lambda tensor: (tensor.nonzero(),),
        lambda tensor: (tensor.repeat_interleave((tensor > 0).long()),),
        lambda tensor: (tensor + torch.empty_like(tensor, device="meta").copy_(tensor).numel(),),
        lambda tensor: (tensor + tensor.to("meta").numel(),),
    ],
)
def test_work_that_needs_the_host_is_not_recorded_and_done_as_it_comes(work: Any) -> None:
    inputs = torch.tensor([3.0, -1.0])
    with pytest.raises(CannotRecord):
        Recording(work, [inputs])
    recordings = Recordings(2)
    for _ in range(3):
        assert torch.equal(recordings.run("it", lambda: work, [inputs])[0], work(inputs)[0])
    assert len(recordings) == 0


def test_work_is_recorded_the_second_time_and_the_least_recently_used_is_forgotten() -> None:
    recordings = Recordings(2)

    def is_recorded(name: int) -> bool:
        before = len(recordings)
        work = Adding(name)
        assert recordings.run(name, lambda: work, [torch.zeros(1)])[0].item() == name
        return work.done == 0 or len(recordings) > before  # played, or recorded just now

    assert [is_recorded(1) for _ in range(3)] == [False, True, True]
    assert not is_recorded(2)
    assert is_recorded(1)
    assert not is_recorded(3)  # and 2 is forgotten
    assert is_recorded(1)
    assert not is_recorded(2)


def test_memory_of_recordings_is_that_of_their_places_and_graphs() -> None:
    recordings = Recordings(2)
    assert recordings.nbytes == 0
    for _ in range(2):
        recordings.run("it", Adding, [torch.zeros(2**20)])
    assert 2**23 <= recordings.nbytes < 2**24


def test_copies_are_the_tensors_in_their_order() -> None:
    tensors = torch.arange(3), torch.ones(2, 2)
    there = on_device(tensors, torch.device("cpu"))
    assert all(torch.equal(*pair) for pair in zip(on_host(there), tensors, strict=True))
    assert on_host(()) == ()
