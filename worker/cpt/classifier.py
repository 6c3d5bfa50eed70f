"""What turns a query's label scores and features into probabilities."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from worker.cpt.features import VIEWS
from worker.cpt.head import Head
from worker.cpt.mixture import Mixture

_HEAD: Final = ("center", "scale", "weight", "bias")


@dataclass(frozen=True)
class Classifier:
    """`score_bias` [L] is taken from the label scores before they are mixed with the heads', one for each of `VIEWS` or
    none at all.
    """

    score_bias: Tensor
    mixture: Mixture
    heads: tuple[Head, ...] = ()

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return sum(tensor.nbytes for tensor in self.tensors().values())

    def probabilities(self, scores: Tensor, features: Tensor | None = None) -> Tensor:
        """[N, L] float64 from label scores [N, L] and, if there are heads, features [V, N, H]."""
        parts = [label_part(scores, self.score_bias)]
        if self.heads:
            if features is None:
                raise ValueError("The heads need features.")
            parts += [head.log_probabilities(view) for head, view in zip(self.heads, features, strict=True)]
        return self.mixture.probabilities(torch.stack(parts))

    def tensors(self) -> dict[str, Tensor]:
        """All there is to store, float32."""
        stored = {"score_bias": self.score_bias, "weights": self.mixture.weights, "bias": self.mixture.bias}
        for name in _HEAD if self.heads else ():
            stored[f"head_{name}"] = torch.stack([getattr(head, name) for head in self.heads])
        return {name: tensor.float().contiguous() for name, tensor in stored.items()}

    @classmethod
    def from_tensors(cls, stored: dict[str, Tensor], labels: int, hidden: int) -> "Classifier":
        """What `tensors` gave; raises ValueError for any other names or shapes, or numbers that are not finite."""
        views = len(VIEWS) if "head_weight" in stored else 0
        shapes: dict[str, tuple[int, ...]] = {"score_bias": (labels,), "weights": (1 + views,), "bias": (labels,)}
        if views:
            shapes |= {"head_center": (views, hidden), "head_scale": (views, hidden)}
            shapes |= {"head_weight": (views, hidden, labels), "head_bias": (views, labels)}
        if {name: tuple(tensor.shape) for name, tensor in stored.items()} != shapes:
            raise ValueError("The classifier's tensors do not have the expected shapes.")
        if not all(tensor.isfinite().all() for tensor in stored.values()):
            raise ValueError("The classifier holds numbers that are not finite.")
        heads = [Head(*(stored[f"head_{name}"][view] for name in _HEAD)) for view in range(views)]
        return cls(stored["score_bias"], Mixture(stored["weights"], stored["bias"]), tuple(heads))


def label_part(scores: Tensor, bias: Tensor) -> Tensor:
    """[N, L] log-probabilities from label scores [N, L] less a bias [L]."""
    return (scores.double() - bias).log_softmax(1)
