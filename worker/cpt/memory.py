"""How much memory there is and how much a graph holds."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on a device."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("The kernel does not tell how much memory is available.")


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
        return tensor
