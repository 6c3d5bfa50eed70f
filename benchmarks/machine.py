"""The machine and the versions that figures belong to, and the rate at which it multiplies matrices."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from worker.cpt.kernels.linear import product

PACKAGES = ("torch", "transformers", "peft", "celery", "redis", "fastapi", "uvicorn", "llama-cpp-python")
_SIZE = 2048


def describe() -> dict[str, Any]:
    """Processor, cores, memory and versions; a package that is not installed has the version None."""
    return {
        "processor": _name(),
        "cores": len(os.sched_getaffinity(0)),
        "torch_threads": torch.get_num_threads(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
    }


class Gemm:
    """Float32 products of two 2048 x 2048 matrices by the fastest kernels there are here: the machine's rate.

    Measured like any contender.
    """

    FLOPS = 4 * 2 * _SIZE**3

    def __init__(self) -> None:
        self._rows, self._weight = torch.randn(_SIZE, _SIZE), torch.randn(_SIZE, _SIZE).t()
        self()

    def __call__(self) -> None:
        for _ in range(4):
            product(self._rows, self._weight)

    @classmethod
    def rates(cls, seconds: Sequence[float]) -> list[float]:
        """FLOP/s from the seconds of calls."""
        return [cls.FLOPS / one for one in seconds]


def processor() -> str:
    """Name of the processor, with its family and model where they are known: one name may stand for several kinds."""
    known = _cpuinfo()
    if "cpu family" not in known:
        return _name()
    return f"{_name()} (family {known['cpu family']}, model {known['model']})"


def _name() -> str:
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def _cpuinfo() -> dict[str, str]:
    """What Linux knows of the first processor; nothing on other systems."""
    path = Path("/proc/cpuinfo")
    first = path.read_text().split("\n\n", 1)[0].splitlines() if path.exists() else []
    return {field.strip(): value.strip() for field, _, value in (line.partition(":") for line in first)}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
