"""What turns a query's label scores and features into probabilities."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from worker.cpt.scoring.features import VIEWS
from worker.cpt.scoring.head import Head
from worker.cpt.scoring.mixture import Mixture

_HEAD: Final = ("center", "scale", "weight", "bias")


@dataclass(frozen=True)
class Classifier:
    """`score_bias` [L] is taken from the label scores before they are mixed with the predictions of a head, if any."""

    score_bias: Tensor
    mixture: Mixture
    head: Head | None = None

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return sum(tensor.nbytes for tensor in self.tensors().values())

    def probabilities(self, scores: Tensor, features: Tensor | None = None) -> Tensor:
        """[N, L] float64 from label scores [N, L] and, if there is a head, features [V, N, H]."""
        parts = [label_part(scores, self.score_bias)]
        if self.head is not None:
            if features is None:
                raise ValueError("The head needs features.")
            parts.append(self.head.log_probabilities(features))
        return self.mixture.probabilities(torch.stack(parts))

    def tensors(self) -> dict[str, Tensor]:
        """All there is to store, float32."""
        stored = {"score_bias": self.score_bias, "weights": self.mixture.weights, "bias": self.mixture.bias}
        if self.head is not None:
            stored |= {f"head_{name}": getattr(self.head, name) for name in _HEAD}
        return {name: tensor.float().contiguous() for name, tensor in stored.items()}

    @classmethod
    def from_tensors(cls, stored: dict[str, Tensor], labels: int, hidden: int) -> "Classifier":
        """What `tensors` gave; raises ValueError for any other names or shapes, or numbers that are not finite."""
        has_head, views = "head_weight" in stored, len(VIEWS)
        shapes: dict[str, tuple[int, ...]] = {"score_bias": (labels,), "weights": (1 + has_head,), "bias": (labels,)}
        if has_head:
            shapes |= {"head_center": (views, hidden), "head_scale": (views, hidden)}
            shapes |= {"head_weight": (views, hidden, labels), "head_bias": (labels,)}
        if {name: tuple(tensor.shape) for name, tensor in stored.items()} != shapes:
            raise ValueError("The classifier's tensors do not have the expected shapes.")
        if not all(tensor.isfinite().all() for tensor in stored.values()):
            raise ValueError("The classifier holds numbers that are not finite.")
        head = Head(*(stored[f"head_{name}"] for name in _HEAD)) if has_head else None
        return cls(stored["score_bias"], Mixture(stored["weights"], stored["bias"]), head)


def label_part(scores: Tensor, bias: Tensor) -> Tensor:
    """[N, L] log-probabilities from label scores [N, L] less a bias [L]."""
    return (scores.double() - bias).log_softmax(1)
