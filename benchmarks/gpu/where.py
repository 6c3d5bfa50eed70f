"""Where the time goes in a step of tuning and in a query: launches, products, attention, the rest, the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.shapes import labels_of, model_of, queries_of, task_of
from benchmarks.measurement import timed
from worker.cpt.model.base_model import word_embeddings
from worker.cpt.model.sizes import Sizes
from worker.cpt.scoring.prefix import PrefixKV
from worker.cpt.scoring.scorer import read
from worker.cpt.scoring.trie import LabelTrie
from worker.cpt.tuning.tuner import Tuner, TuningSettings

#: Parts of the names of kernels, in the order in which they are looked for.
_KINDS: Final = {
    "attention": ("fmha", "attention", "softmax_warp"),
    "products": ("gemm", "gemv", "cutlass", "nvjet", "xmma", "splitk"),
    "copies": ("memcpy", "memset", "copy", "catarray", "index"),
}
_LARGEST: Final = 12


def where(shape: str, dtype: torch.dtype, examples: int, device: torch.device) -> dict[str, Any]:
    """Shares of the time of a step, and of a query alone and of 32 at once."""
    model = model_of(shape, device, dtype)
    context, training = task_of(examples)
    chunk_tokens = Sizes.of(model).chunk_tokens
    tuner = Tuner(model, context, training, context.config(), TuningSettings(), chunk_tokens=chunk_tokens)
    prefix = PrefixKV.compute(model, word_embeddings(model, task_of(8)[0].tokens.ids))
    trie = LabelTrie.build(labels_of(2))

    def ask(count: int) -> Callable[[], object]:
        asked = queries_of(count)
        return lambda: read(model, prefix, [trie] * count, asked)

    return {name: _shares(work, device) for name, work in {"step": tuner.step, "1": ask(1), "32": ask(32)}.items()}


def _shares(work: Callable[[], object], device: torch.device) -> dict[str, Any]:
    for _ in range(3):
        work()
    seconds = timed(work)
    gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * gpu) as profiled:
        timed(work)
    found, names, launches = dict.fromkeys([*_KINDS, "others"], 0.0), dict[str, float](), 0
    for event in profiled.key_averages():
        spent = (event.self_device_time_total if gpu else event.self_cpu_time_total) / 1e6
        if not spent or (gpu and "CUDA" not in str(event.device_type)):
            continue
        launches += event.count
        names[event.key] = spent
        found[_kind(event.key)] += spent
    largest = sorted(names, key=lambda name: -names[name])[:_LARGEST]
    return {
        "seconds": seconds,
        "kernels": launches,
        "busy_seconds": found,
        "idle_share": max(0.0, 1 - sum(found.values()) / seconds),
        "largest": {name[:80]: names[name] for name in largest},
    }


def _kind(kernel: str) -> str:
    lower = kernel.lower()
    return next((kind for kind, parts in _KINDS.items() if any(part in lower for part in parts)), "others")
