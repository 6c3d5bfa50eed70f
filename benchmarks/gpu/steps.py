"""A step of tuning: ours, PEFT's with its fastest micro-batch, the share of the card's rate, and the memory taken."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any, Final

import torch

from benchmarks.flops import step_flops
from benchmarks.gpu.shapes import model_of, task_of
from benchmarks.measurement import timed
from benchmarks.reference import ReferenceTuning
from worker.cpt.encoding.context import Context, Tokens
from worker.cpt.model.sizes import Sizes
from worker.cpt.tuning.tuner import Tuner, TuningSettings

_ROUNDS: Final = 5
#: A step that comes again is recorded.
_WARM_UPS: Final = 3
#: Rows of a step that PEFT is timed on; its time is the same for each, as it computes the context for each.
_PEFT_ROWS: Final = 4
_MATRIX: Final = 8192


def steps(shape: str, dtype: torch.dtype, examples: tuple[int, ...], device: torch.device) -> dict[str, Any]:
    """By number of examples, all of which are in the context and trained on."""
    tasks = {count: task_of(count) for count in examples}
    rate, figures = _rate(device, dtype), dict[str, Any]()
    model = model_of(shape, device, dtype)
    for count, (context, training) in tasks.items():
        figures[str(count)] = _ours(model, context, training, rate)
    del model
    plain = model_of(shape, device, dtype)
    for count, (context, training) in tasks.items():
        peft = _peft(plain, context, training)
        figures[str(count)] |= peft | {"speedup": peft["peft_seconds"] / figures[str(count)]["seconds"]}
    return {"rate_tflops": rate / 1e12, "by_examples": figures}


def _ours(model: Any, context: Context, training: list[Tokens], rate: float) -> dict[str, Any]:
    chunk_tokens = Sizes.of(model).chunk_tokens
    tuner = Tuner(model, context, training, context.config(), TuningSettings(), chunk_tokens=chunk_tokens)
    for _ in range(_WARM_UPS):
        tuner.step()
    seconds, peak = _measured(tuner.step, model.device)
    flops = step_flops(model, len(context), [len(row) for row in training])
    return {
        "context_tokens": len(context),
        "chunk_tokens": chunk_tokens,
        "seconds": seconds,
        "peak_bytes": peak,
        "share_of_rate": flops / seconds / rate,
    }


def _peft(model: Any, context: Context, training: list[Tokens]) -> dict[str, Any]:
    rows = min(_PEFT_ROWS, len(training))
    reference = ReferenceTuning(model, context.config(), training)
    micro_batch = reference.choose_micro_batch(rows)
    seconds, peak = _measured(lambda: reference.step(rows), model.device)
    scaled = seconds * len(training) / rows
    return {"peft_seconds": scaled, "peft_micro_batch": micro_batch, "peft_rows": rows, "peft_peak_bytes": peak}


def _measured(work: Callable[[], object], device: torch.device) -> tuple[float, int]:
    """Median seconds, and bytes at the peak above those that were held before."""
    gpu = device.type == "cuda"
    held = torch.cuda.memory_allocated(device) if gpu else 0
    if gpu:
        torch.cuda.reset_peak_memory_stats(device)
    seconds = statistics.median(timed(work) for _ in range(_ROUNDS))
    return seconds, torch.cuda.max_memory_allocated(device) - held if gpu else 0


def _rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of the device in large products of a dtype, as torch makes them."""
    size = _MATRIX if device.type == "cuda" else _MATRIX // 16
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    left @ right
    return 2 * size**3 / min(timed(lambda: left @ right) for _ in range(5))
