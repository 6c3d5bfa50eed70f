"""What is measured: each part is a function of device and shape that returns figures for JSON."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import peft
import torch
from torch import Tensor

from benchmarks.gpu.shapes import model_of, task_of
from worker.cpt.kernels import reference
from worker.cpt.kernels.backend import MASKED, backend_for
from worker.cpt.model.sizes import Sizes
from worker.cpt.tuning.tuner import Tuner, TuningSettings

Part = Callable[[torch.device], dict[str, Any]]

_STEPS: Final = 20
_RATE: Final = 1e-2
_ROUNDS: Final = 3


def kernels(dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """The device's attention against the reference: the greatest relative differences, causal, masked and neither."""
    generator, figures = torch.Generator().manual_seed(0), dict[str, Any]()
    for name, (causal, masked) in {"causal": (True, False), "masked": (False, True), "plain": (False, False)}.items():
        shapes = (2, 3, 70, 24), (2, 3, 70, 24), (2, 70, 24), (2, 70, 24)
        query, grad, key, value = (torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes)
        mask = torch.where(torch.rand(1, 70, 70, generator=generator) < 0.3, MASKED, 0.0).to(device) if masked else None
        exact = query.float(), key.float(), value.float()
        result = reference.forward(*exact, mask, causal, 0.2)
        expected = *result, *reference.backward(grad.float(), *exact, result, mask, causal, 0.2)
        backend = backend_for(device, dtype)
        output, lse = backend.forward(query, key, value, mask, causal, 0.2)
        found = output, lse, *backend.backward(grad, query, key, value, (output, lse), mask, causal, 0.2)
        figures[name] = max(_relative(*pair) for pair in zip(found, expected, strict=True))
    return figures


def agreement(shape: str, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Loss, gradient and 20 steps against PEFT on the same device."""
    model = model_of(shape, device, dtype)
    context, training = task_of(4, model.config.vocab_size)
    config = context.config()
    tuner = Tuner(model, context, training, config, TuningSettings(steps=_STEPS, learning_rate=_RATE))
    oracle = peft.get_peft_model(
        model_of(shape, device, dtype),
        peft.CPTConfig(
            task_type="CAUSAL_LM",
            cpt_token_ids=config.cpt_token_ids,
            cpt_mask=config.cpt_mask,
            cpt_tokens_type_mask=config.cpt_tokens_type_mask,
        ),
    ).eval()
    delta = next(weight for weight in oracle.parameters() if weight.requires_grad)
    optimizer = torch.optim.AdamW([delta], lr=_RATE)
    ids = torch.tensor([row.ids for row in training], device=device)
    types = torch.tensor([row.reference_types() for row in training], device=device)
    figures: dict[str, Any] = {}
    for step in range(_STEPS):
        loss = oracle(
            input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids.clone(), input_type_mask=types.clone()
        ).loss
        optimizer.zero_grad()
        loss.backward()
        ours = tuner.step()
        if step == 0:
            gradient = tuner.embedding.delta_embedding.weight.grad
            figures = {"loss": abs(ours / loss.item() - 1), "gradient": _relative(gradient, delta.grad)}
        optimizer.step()
    figures["delta"] = _relative(tuner.state()["delta"], oracle.prompt_encoder["default"].get_projection())
    return figures


def steps(shape: str, dtype: torch.dtype, examples: tuple[int, ...], device: torch.device) -> dict[str, Any]:
    """Seconds of a step of the engine, and the memory that it takes beside the weights, by number of examples."""
    model, figures = model_of(shape, device, dtype), dict[str, Any]()
    chunk_tokens = Sizes.of(model).chunk_tokens
    for count in examples:
        context, training = task_of(count, model.config.vocab_size)
        tuner = Tuner(model, context, training, context.config(), TuningSettings(), chunk_tokens=chunk_tokens)
        tuner.step()
        before = _memory(device)
        seconds = [_timed(tuner.step, device) for _ in range(_ROUNDS)]
        figures[str(count)] = {
            "context_tokens": len(context),
            "chunk_tokens": chunk_tokens,
            "seconds": sorted(seconds)[_ROUNDS // 2],
            "peak_bytes": _peak(device) - before,
        }
    return figures


def parts_for(device: torch.device) -> dict[str, Part]:
    """The parts for a GPU, or the same with tiny shapes for a CPU; the first ones are the smallest."""
    gpu = device.type == "cuda"
    small, many = ("135m", (8, 24, 84)) if gpu else ("tiny", (2, 4))
    found: dict[str, Part] = {}
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        found[f"kernels/{name}"] = partial(kernels, dtype)
        found[f"agreement/{small}/{name}"] = partial(agreement, small, dtype)
        found[f"steps/{small}/{name}"] = partial(steps, small, dtype, many)
    if gpu:
        found["steps/8b/bfloat16"] = partial(steps, "8b", torch.bfloat16, many)
    return found


def _relative(ours: Tensor | None, theirs: Tensor | None) -> float:
    if ours is None or theirs is None:
        raise ValueError("There is nothing to compare.")
    return float((ours.float() - theirs.float()).norm() / theirs.float().norm())


def _timed(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def _memory(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
