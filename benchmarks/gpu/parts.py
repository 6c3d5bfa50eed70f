"""The parts of the script, the smallest first: each is a function of the device that returns figures for JSON."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any, Final

import torch

from benchmarks.gpu.agreement import agreement, kernels
from benchmarks.gpu.queries import queries
from benchmarks.gpu.steps import steps
from benchmarks.gpu.where import where

Part = Callable[[torch.device], dict[str, Any]]

#: Of each load of the service, by kind of device.
_LOAD_SECONDS: Final = {"cuda": 3.0, "cpu": 0.5}


def parts_for(device: torch.device) -> dict[str, Part]:
    """The parts for a GPU, or the same with tiny shapes for a CPU."""
    gpu = device.type == "cuda"
    small, examples = ("135m", (8, 24, 84)) if gpu else ("tiny", (2, 4))
    batches, labels = ((1, 32, 256, 1024), (2, 6, 77)) if gpu else ((1, 3), (2, 6))
    found: dict[str, Part] = {}
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        found[f"kernels/{name}"] = partial(kernels, dtype)
        found[f"agreement/{small}/{name}"] = partial(agreement, small, dtype)
        found[f"steps/{small}/{name}"] = partial(steps, small, dtype, examples)
        found[f"queries/{small}/{name}"] = partial(queries, small, dtype, batches, labels)
    found[f"where/{small}/float32"] = partial(where, small, torch.float32, examples[-1])
    if gpu:
        found["steps/8b/bfloat16"] = partial(steps, "8b", torch.bfloat16, examples)
        found["queries/8b/bfloat16"] = partial(queries, "8b", torch.bfloat16, (1, 32, 256), (2, 77))
        found["where/8b/bfloat16"] = partial(where, "8b", torch.bfloat16, 84)
    found["service"] = _service
    return found


def _service(device: torch.device) -> dict[str, Any]:
    """The part that needs more than torch, transformers and PEFT: the others run where these alone are installed."""
    figures: dict[str, Any] = import_module("benchmarks.gpu.service").service(_LOAD_SECONDS[device.type], device)
    return figures
