"""Keys and values of a context, computed once and shared by every query."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor

from worker.cpt.kernels.recording import Recordings
from worker.cpt.model import base_model
from worker.cpt.model.packing import Packing

#: Recordings kept for a prefix.
RECORDINGS: Final = 16


@dataclass(frozen=True)
class PrefixKV:
    """Per layer the context's keys and values, each [key heads, T, D] and contiguous.

    `recordings` are of passes over them.
    """

    layers: tuple[tuple[Tensor, Tensor], ...]
    recordings: Recordings = field(default_factory=partial(Recordings, RECORDINGS), compare=False, repr=False)

    @property
    def tokens(self) -> int:
        """Length of the context."""
        return self.layers[0][0].shape[1]

    @property
    def nbytes(self) -> int:
        """Memory held, that of its recordings included."""
        return sum(tensor.nbytes for pair in self.layers for tensor in pair) + self.recordings.nbytes

    def followed_by(self, own: Sequence[tuple[Tensor, Tensor]]) -> "PrefixKV":
        """With the keys and values of the tokens of a row that follows it."""
        return PrefixKV(
            tuple(
                (torch.cat([key, key_after], 1), torch.cat([value, value_after], 1))
                for (key, value), (key_after, value_after) in zip(self.layers, own, strict=True)
            )
        )

    @classmethod
    @torch.inference_mode()
    def compute(cls, model: Any, embeds: Tensor) -> "PrefixKV":
        """Run the context's embeddings [T, H] through the model, which is prepared if it was not."""
        base_model.prepare(model)
        packing = Packing.causal([len(embeds)], 0, model.device)
        _, computed = base_model.run(model, embeds.to(model.device), packing)
        layers = []
        while computed:  # no layer is held twice for longer than its own copy takes
            key, value = computed.pop(0)
            layers.append((key.contiguous(), value.contiguous()))
        return cls(tuple(layers))
