"""Copies between the host and a device. To and from CUDA they go through pinned memory, so that neither side waits for
each of them: to the device not at all, from the device once for all.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def on_device(tensors: Sequence[Tensor], device: torch.device) -> tuple[Tensor, ...]:
    """The tensors of the host on `device`, in order of the work that is given to it next."""
    if device.type != "cuda":
        return tuple(tensor.to(device) for tensor in tensors)
    return tuple(tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors)


def on_host(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The tensors of one device on the host, once all work before them is done."""
    if not tensors or tensors[0].device.type != "cuda":
        return tuple(tensor.cpu() for tensor in tensors)
    found = tuple(torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True) for tensor in tensors)
    for place, tensor in zip(found, tensors, strict=True):
        place.copy_(tensor, non_blocking=True)
    torch.cuda.current_stream(tensors[0].device).synchronize()
    return found
