"""Outcomes: what the figures need of each prediction, however many labels there are. As bytes for what is resumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Outcomes:
    """Of N predictions: true and predicted labels (N,), and as float64 (N,) the confidence in the latter.

    ``likelihood`` is the probability of the true label, ``distance`` the squared distance of all from the truth.
    """

    truth: Tensor
    predicted: Tensor
    confidence: Tensor
    likelihood: Tensor
    distance: Tensor

    @classmethod
    def of(cls, probabilities: Tensor, truth: Tensor) -> Outcomes:
        """Outcomes of probabilities (N, L), rows that sum to 1, with the labels ``truth`` (N,) as indices."""
        exact = probabilities.double()
        confidence, predicted = exact.max(1)
        distance = (exact - functional.one_hot(truth, exact.shape[1])).square().sum(1)
        return cls(truth, predicted, confidence, exact.gather(1, truth[:, None]).flatten(), distance)

    @classmethod
    def joined(cls, parts: Sequence[bytes]) -> Outcomes:
        """The outcomes of all parts, as `dump` gave them, one after the other."""
        loaded = [safetensors.torch.load(part) for part in parts]
        return cls(**{field.name: torch.cat([part[field.name] for part in loaded]) for field in fields(cls)})

    def dump(self) -> bytes:
        """As bytes."""
        tensors = {field.name: getattr(self, field.name).contiguous() for field in fields(self)}
        return safetensors.torch.save(tensors)

    @property
    def right(self) -> Tensor:
        """(N,) whether each was predicted as what it is."""
        return self.predicted == self.truth

    def __len__(self) -> int:
        return len(self.truth)
