"""What the device computes, against plain arithmetic and against PEFT on the same device."""

from __future__ import annotations

from typing import Any, Final

import peft
import torch
from torch import Tensor

from benchmarks.gpu.shapes import model_of, task_of
from worker.cpt.kernels import reference
from worker.cpt.kernels.backend import MASKED, backend_for
from worker.cpt.tuning.tuner import Tuner, TuningSettings

_STEPS: Final = 20
_RATE: Final = 1e-2


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
    context, training = task_of(4)
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


def _relative(ours: Tensor | None, theirs: Tensor | None) -> float:
    if ours is None or theirs is None:
        raise ValueError("There is nothing to compare.")
    return float((ours.float() - theirs.float()).norm() / theirs.float().norm())
