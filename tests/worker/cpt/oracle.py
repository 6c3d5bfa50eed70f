"""PEFT's CPT, which judges ours in tests and is used nowhere else."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import peft
import torch
from torch import Tensor

from worker.cpt.encoding.context import Tokens
from worker.cpt.tuning.config import CPTConfig
from worker.cpt.tuning.tuner import Tuner


class Oracle(NamedTuple):
    """A model with the reference's CPT, and its delta."""

    model: Any
    delta: Tensor

    @classmethod
    def of(cls, model: Any, config: CPTConfig) -> "Oracle":
        """The oracle for a config; the model is changed."""
        settings = peft.CPTConfig(
            task_type="CAUSAL_LM",
            cpt_token_ids=config.cpt_token_ids,
            cpt_mask=config.cpt_mask,
            cpt_tokens_type_mask=config.cpt_tokens_type_mask,
            opt_weighted_loss_type=config.opt_weighted_loss_type,
            opt_loss_decay_factor=config.opt_loss_decay_factor,
            opt_projection_epsilon=config.opt_projection_epsilon,
            opt_projection_format_epsilon=config.opt_projection_format_epsilon,
        )
        tuned = peft.get_peft_model(model, settings).eval()
        return cls(tuned, next(weight for weight in tuned.parameters() if weight.requires_grad))

    def loss(self, batch: Sequence[Tokens]) -> Tensor:
        """Of one batch."""
        length = max(map(len, batch))
        padding = [[0] * (length - len(tokens)) for tokens in batch]
        device = self.delta.device
        ids = torch.tensor([[*tokens.ids, *rest] for tokens, rest in zip(batch, padding, strict=True)], device=device)
        types = [[*tokens.reference_types(), *rest] for tokens, rest in zip(batch, padding, strict=True)]
        mask = [[1] * len(tokens) + rest for tokens, rest in zip(batch, padding, strict=True)]
        output = self.model(
            input_ids=ids,
            attention_mask=torch.tensor(mask, device=device),
            labels=ids.clone(),
            input_type_mask=torch.tensor(types, device=device),
        )
        loss: Tensor = output.loss
        return loss

    def projected(self) -> Tensor:
        """Delta [T, H]."""
        projected: Tensor = self.model.prompt_encoder["default"].get_projection()
        return projected


def relative(ours: Tensor, theirs: Tensor) -> float:
    """Difference as a part of the norm."""
    return float((ours - theirs).norm() / theirs.norm())


def gradients(tuner: Tuner, oracle: Oracle, batch: Sequence[Tokens]) -> tuple[float, float, float]:
    """Relative differences of loss and gradient, and the gradient's norm."""
    ours = CapturedStep(tuner)
    theirs = oracle.loss(batch)
    (gradient,) = torch.autograd.grad(theirs, oracle.delta)
    return abs(ours.loss / theirs.item() - 1), relative(ours.gradient, gradient), float(gradient.norm())


class CapturedStep:
    """Loss and gradient of a tuner's next step."""

    def __init__(self, tuner: Tuner) -> None:
        self.loss = tuner.step()
        gradient = tuner.embedding.delta_embedding.weight.grad
        assert gradient is not None
        self.gradient = gradient
