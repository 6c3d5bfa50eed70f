"""Devices: which there are, which of them a worker is to use, and what memory they have.

``python -m worker.devices`` prints the names of all, one a line, for a supervisor that cannot ask torch.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from typing import Final

import torch

from app.contract.messages import DeviceState
from worker.cpt.model.memory import free_memory

_MOST_ON_CPU: Final = 2 * 1024**3


class NoSuchDevice(ValueError):
    """A device is named that this machine does not have."""


def existing() -> list[str]:
    """Names of this machine's devices: CUDA's first, then the CPU."""
    return [*(f"cuda:{number}" for number in range(torch.cuda.device_count())), "cpu"]


def resolve(name: str, here: Sequence[str] | None = None) -> str:
    """The device that ``name`` means: "auto" is the first of those ``here``, "cuda" the first of CUDA's.

    Raises `NoSuchDevice`, naming those that there are.
    """
    devices = existing() if here is None else here
    wanted = {"auto": devices[0], "cuda": "cuda:0"}.get(name, name)
    if wanted not in devices:
        raise NoSuchDevice(f"there is no device {name!r}: this machine has {', '.join(devices)}")
    return wanted


def make_current(device: str) -> None:
    """Let this thread's work on CUDA that names no device, such as pinning memory, touch this one and no other."""
    if device.startswith("cuda"):
        torch.cuda.set_device(device)


def state(device: str) -> DeviceState:
    """A device with its memory (bytes) as it is now."""
    if device.startswith("cuda"):
        _, total = torch.cuda.mem_get_info(device)
        name = torch.cuda.get_device_name(device)
    else:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        name = platform.processor() or platform.machine()
    return DeviceState(id=device, name=name, total_bytes=total, free_bytes=free_memory(torch.device(device)))


def resident_bytes(device: str) -> int:
    """Memory for resident contexts where none is configured: half of what is free on a GPU, less on a CPU."""
    free = free_memory(torch.device(device))
    return free // 2 if device.startswith("cuda") else min(free // 4, _MOST_ON_CPU)


if __name__ == "__main__":
    sys.stdout.write("".join(f"{name}\n" for name in existing()))
