"""How much memory there is and how much a graph holds."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

_GROUP: Final = Path("/sys/fs/cgroup")
#: Taken to be free where the system does not tell, in bytes.
_UNKNOWN: Final = 2 * 1024**3


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on a device."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return min(_machine_memory(), _group_memory())


def _machine_memory() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return _UNKNOWN


def _group_memory() -> int:
    """What the control group, such as that of a container, may still take; no bound where there is none."""
    try:
        limit, used = (int((_GROUP / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # "max" is no number: no bound
        return sys.maxsize
    return max(limit - used, 0)


class GraphMeter:
    """Counts the bytes a graph keeps for its backward pass, weights of the model left out."""

    def __init__(self, model: nn.Module) -> None:
        self._weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
        self._kept: dict[int, int] = {}

    @property
    def nbytes(self) -> int:
        """Bytes kept by what ran inside `metering`."""
        return sum(self._kept.values())

    @contextmanager
    def metering(self) -> Iterator[None]:
        """Count what is saved for backward inside the block."""
        with torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor):
            yield

    def _keep(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._weights:
            self._kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # a result that its own graph keeps would keep that graph, for ever
