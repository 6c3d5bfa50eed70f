"""Work on tensors of fixed shapes, recorded once and then played again: on CUDA one launch in place of hundreds.

What cannot be recorded is found out before a recording begins, as one that is broken off leaves the allocator waiting.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import cache, cached_property
from typing import Any, Final, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Work = Callable[..., tuple[Tensor, ...]]

#: Operators that copy numbers from the host's memory, or wait for the device to read a tensor's.
_OF_THE_HOST: Final = {
    "aten::lift_fresh",
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::masked_select",
    "aten::equal",
    "aten::_unique2",
    # By a tensor of counts, whose sum the device alone knows:
    "aten::repeat_interleave.Tensor",
    "aten::repeat_interleave.self_Tensor",
}
#: What a graph takes beside its inputs and outputs, in bytes: about a kilobyte for each kernel, and its memory's pool.
_GRAPH_BYTES: Final = 2**20


class CannotRecord(Exception):
    """The work needs the host while it runs, or the device could not record it."""


class Memory:
    """Memory that recordings share, since they are played one after another; it is freed with the last of them."""

    @cached_property
    def pool(self) -> Any:
        """CUDA's name for it."""
        return torch.cuda.graph_pool_handle()


#: That of small work: a pool for each piece would take more than the work itself.
_SHARED: Final = Memory()


class Recorder(Protocol):
    """Makes of work and its inputs, at fixed places, what computes it anew into outputs at fixed places."""

    def __call__(
        self, work: Work, inputs: Sequence[Tensor], memory: Memory
    ) -> tuple[Callable[[], object], tuple[Tensor, ...]]:
        """What plays the work again, and its outputs."""


class Recording:
    """A piece of work with inputs and outputs at fixed places.

    The work must depend on nothing else that changes. A recording is for one thread.

    Raises:
        CannotRecord: the work cannot be recorded; it may still be done as it comes.
    """

    def __init__(
        self, work: Work, inputs: Sequence[Tensor], recorder: Recorder | None = None, memory: Memory = _SHARED
    ) -> None:
        self._work = work  # a graph reads the tensors that it holds where they lie
        self._inputs = [tensor.clone() for tensor in inputs]
        record = recorder or (_graph if inputs[0].device.type == "cuda" else _run_again)
        self._play, self._outputs = record(work, self._inputs, memory)

    @property
    def nbytes(self) -> int:
        """Memory held, but for what the work itself holds."""
        return _GRAPH_BYTES + sum(tensor.nbytes for tensor in (*self._inputs, *self._outputs))

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The work's outputs for inputs of the recorded shapes; they change with the next recording that is played.

        Raises ValueError for other shapes.
        """
        if [tensor.shape for tensor in inputs] != [place.shape for place in self._inputs]:
            raise ValueError("The inputs do not have the recorded shapes.")
        for place, tensor in zip(self._inputs, inputs, strict=True):
            place.copy_(tensor, non_blocking=True)
        self._play()
        return self._outputs


class Recordings:
    """Recordings by what they are of, `most` of them, the least recently used out first.

    Work is recorded when it comes a second time: what comes once is not worth it. What cannot be recorded is done as
    it comes. `apart`: they have memory of their own, which large work gives back when it ends.
    """

    def __init__(self, most: int, *, apart: bool = False) -> None:
        self._most: Final = most
        self._memory: Final = Memory() if apart else _SHARED
        self._kept: dict[Hashable, Recording | None] = {}
        self._refused: set[Hashable] = set()

    def __len__(self) -> int:
        return sum(recording is not None for recording in self._kept.values())

    @property
    def nbytes(self) -> int:
        """Memory held, but for what the work itself holds and the pool."""
        return sum(recording.nbytes for recording in list(self._kept.values()) if recording is not None)

    def run(self, name: Hashable, make: Callable[[], Work], inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Outputs of the work that `make` gives, which is always the same for a name."""
        known, recording = name in self._kept, self._kept.pop(name, None)
        if known and recording is None and name not in self._refused:
            try:
                recording = Recording(make(), inputs, memory=self._memory)
            except CannotRecord:
                self._refused.add(name)
        self._kept[name] = recording  # the last used is the last
        if len(self._kept) > self._most:
            forgotten = next(iter(self._kept))
            del self._kept[forgotten]
            self._refused.discard(forgotten)
        return recording(*inputs) if recording else make()(*inputs)


class _WithoutTheHost(TorchDispatchMode):
    """Raises `CannotRecord` for work that needs the host."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = func._schema.name, kwargs or {}
        if (
            not _OF_THE_HOST.isdisjoint({name, f"{name}.{func._overloadname}"})
            or (name.startswith("aten::index") and _by_mask(args))
            or _crosses(name, args, kwargs)
        ):
            raise CannotRecord(f"{name} needs the host")
        return func(*args, **kwargs)


def _by_mask(args: Sequence[Any]) -> bool:
    """Whether an indexing operator is given a mask: how much it selects, the device alone knows."""
    indices = args[1] if len(args) > 1 and isinstance(args[1], list | tuple) else ()
    return any(isinstance(index, Tensor) and index.dtype == torch.bool for index in indices)


def _crosses(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Whether an operator copies a tensor to another kind of device: from the host's memory, or to it."""
    if name == "aten::copy_":
        return bool(args[0].device.type != args[1].device.type)
    there = kwargs.get("device") if name == "aten::_to_copy" else None
    return there is not None and torch.device(there).type != args[0].device.type


def _run_again(work: Work, inputs: Sequence[Tensor], memory: Memory) -> tuple[Callable[[], object], tuple[Tensor, ...]]:
    """The twin of a graph where there are none: the same places, the work done anew."""
    del memory  # the host's is everybody's
    with _WithoutTheHost():
        outputs = work(*inputs)

    def play() -> None:
        for place, tensor in zip(outputs, work(*inputs), strict=True):
            place.copy_(tensor)

    return play, outputs


def _graph(work: Work, inputs: Sequence[Tensor], memory: Memory) -> tuple[Callable[[], object], tuple[Tensor, ...]]:
    """A CUDA graph."""
    device, graph = inputs[0].device, torch.cuda.CUDAGraph()
    aside, current = _aside(device), torch.cuda.current_stream(device)
    aside.wait_stream(current)
    try:
        with torch.cuda.device(device), torch.cuda.stream(aside):  # which ends well also where a capture does not
            with _WithoutTheHost():
                work(*inputs)  # also chooses kernels and allocates workspaces
            current.wait_stream(aside)
            # Other threads may load models and contexts meanwhile.
            with torch.cuda.graph(graph, pool=memory.pool, stream=aside, capture_error_mode="thread_local"):
                outputs = work(*inputs)
    except RuntimeError as error:  # a device that takes no more work says so when the work is done as it comes
        raise CannotRecord(str(error)) from error
    return graph.replay, outputs


@cache
def _aside(device: torch.device) -> torch.cuda.Stream:
    """The stream that a device's work is recorded on: blocks of a pool are used again on their own stream alone."""
    return torch.cuda.Stream(device)
