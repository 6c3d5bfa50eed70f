"""Keys and values of a context, computed once and shared by every query."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from worker.cpt.kernels.recording import Recording
from worker.cpt.model import base_model
from worker.cpt.model.packing import Packing


@dataclass(frozen=True)
class PrefixKV:
    """Per layer the context's keys and values, each [key heads, T, D] and contiguous.

    `recordings` are of passes over them, by what they are of: None where one was made and not recorded.
    """

    layers: tuple[tuple[Tensor, Tensor], ...]
    recordings: dict[Hashable, Recording | None] = field(default_factory=dict, compare=False, repr=False)

    @property
    def tokens(self) -> int:
        """Length of the context."""
        return self.layers[0][0].shape[1]

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return sum(tensor.nbytes for pair in self.layers for tensor in pair)

    @classmethod
    @torch.inference_mode()
    def compute(cls, model: Any, embeds: Tensor) -> "PrefixKV":
        """Run the context's embeddings [T, H] through the model, which is prepared if it was not."""
        base_model.prepare(model)
        packing = Packing.causal([len(embeds)], 0, model.device)
        _, layers = base_model.run(model, embeds.to(model.device), packing)
        return cls(tuple((key.contiguous(), value.contiguous()) for key, value in layers))
