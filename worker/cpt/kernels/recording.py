"""Work on tensors of fixed shapes, recorded once and then played again: on CUDA one launch in place of hundreds."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final, Protocol

import torch
from torch import Tensor

#: Runs before a recording, in which kernels are chosen and workspaces allocated.
_WARM_UPS: Final = 2

Work = Callable[..., tuple[Tensor, ...]]


class Recorder(Protocol):
    """Makes of work and its inputs, at fixed places, what computes it anew into outputs at fixed places."""

    def __call__(self, work: Work, inputs: Sequence[Tensor]) -> tuple[Callable[[], object], tuple[Tensor, ...]]:
        """What plays the work again, and its outputs."""


class Recording:
    """A piece of work with inputs and outputs at fixed places.

    The work must compute on the device alone: it may neither read a tensor's numbers nor depend on anything else that
    changes. A recording is for one thread.
    """

    def __init__(self, work: Work, inputs: Sequence[Tensor], recorder: Recorder | None = None) -> None:
        self._inputs = [tensor.clone() for tensor in inputs]
        record = recorder or (_graph if inputs[0].device.type == "cuda" else _run_again)
        self._play, self._outputs = record(work, self._inputs)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The work's outputs for inputs of the recorded shapes; they change with the next recording that is played.

        Raises ValueError for other shapes.
        """
        if [tensor.shape for tensor in inputs] != [place.shape for place in self._inputs]:
            raise ValueError("The inputs do not have the recorded shapes.")
        for place, tensor in zip(self._inputs, inputs, strict=True):
            place.copy_(tensor)
        self._play()
        return self._outputs


def _run_again(work: Work, inputs: Sequence[Tensor]) -> tuple[Callable[[], object], tuple[Tensor, ...]]:
    """The twin of a graph where there are none: the same places, the work done anew."""
    outputs = work(*inputs)

    def play() -> None:
        for place, tensor in zip(outputs, work(*inputs), strict=True):
            place.copy_(tensor)

    return play, outputs


def _graph(work: Work, inputs: Sequence[Tensor]) -> tuple[Callable[[], object], tuple[Tensor, ...]]:
    """A CUDA graph. All graphs share one pool of memory, as they are played one after another."""
    device = inputs[0].device
    aside = torch.cuda.Stream(device)
    aside.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(aside):
        for _ in range(_WARM_UPS):
            work(*inputs)
    torch.cuda.current_stream(device).wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    # Other threads may load models and contexts meanwhile.
    with torch.cuda.graph(graph, pool=_pool(device), capture_error_mode="thread_local"):
        outputs = work(*inputs)
    return graph.replay, outputs


@cache
def _pool(device: torch.device) -> Any:
    del device  # one for each
    return torch.cuda.graph_pool_handle()
