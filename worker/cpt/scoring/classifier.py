"""What turns what is read of a query under the prompts, and its sentence vector, into probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from worker.cpt.scoring.head import Head
from worker.cpt.scoring.mixture import Mixture
from worker.cpt.scoring.scorer import Reading
from worker.cpt.scoring.views import VIEWS

_HEAD: Final = ("center", "scale", "weight", "bias")


@dataclass(frozen=True)
class Classifier:
    """A mixture of label scores, heads on the states under each prompt, and a head on sentence vectors.

    `score_bias` [P, L] is taken from the label scores under each of P prompts. `state_heads` are one for each prompt or
    none. `encoder_change` [2, C] is put on the encoder's upper layers, for its head was fitted to such vectors. With a
    `shortlist` only so many labels, the likeliest by their `listing`, are scored, and the mixture `cheap` of the heads
    alone stands for the others; none are scored at all if it is 0.
    """

    score_bias: Tensor
    mixture: Mixture
    state_heads: tuple[Head, ...] = ()
    encoder_head: Head | None = None
    encoder_change: Tensor | None = None
    shortlist: int | None = None
    cheap: Mixture | None = None

    @property
    def weighs_scores(self) -> bool:
        """Whether label scores have any part in what it says."""
        return bool(self.mixture.weights[0] != 0)

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return sum(tensor.nbytes for tensor in self.tensors().values())

    def probabilities(self, readings: Sequence[Reading], vectors: Tensor | None = None) -> Tensor:
        """[N, L] float64 from readings under each prompt and, if there is an encoder's head, vectors [V, N, E]."""
        parts = [label_part([reading.scores for reading in readings], self.score_bias)]
        return self.mixture.probabilities(torch.stack([*parts, *self.cheap_parts(readings, vectors)]))

    def cheap_parts(self, readings: Sequence[Reading], vectors: Tensor | None) -> list[Tensor]:
        """Log-probabilities [N, L] of the heads, the encoder's last."""
        parts = [self._of_states(readings)] if self.state_heads else []
        return parts if self.encoder_head is None else [*parts, self._of_encoder(self.encoder_head, vectors)]

    def listing(self, readings: Sequence[Reading], vectors: Tensor | None) -> Tensor:
        """[N, L] by which a shortlist is chosen: the last of the cheap parts. The encoder's needs no readings."""
        if self.encoder_head is not None:
            return self._of_encoder(self.encoder_head, vectors)
        return self._of_states(readings)

    def _of_states(self, readings: Sequence[Reading]) -> Tensor:
        pairs = zip(self.state_heads, readings, strict=True)
        return torch.stack([head.log_probabilities(reading.states) for head, reading in pairs]).mean(0).log_softmax(1)

    @staticmethod
    def _of_encoder(head: Head, vectors: Tensor | None) -> Tensor:
        if vectors is None:
            raise ValueError("The head needs sentence vectors.")
        return head.log_probabilities(vectors[: len(head.center)])

    def tensors(self) -> dict[str, Tensor]:
        """All there is to store, float32."""
        stored = {"score_bias": self.score_bias, "weights": self.mixture.weights, "bias": self.mixture.bias}
        if self.cheap is not None:
            stored |= {"cheap_weights": self.cheap.weights, "cheap_bias": self.cheap.bias}
        if self.encoder_change is not None:
            stored["encoder_change"] = self.encoder_change
        if self.shortlist is not None:
            stored["shortlist"] = torch.tensor([self.shortlist])
        for name in _HEAD if self.state_heads else ():
            stored[f"state_{name}"] = torch.stack([getattr(head, name) for head in self.state_heads])
        for name in _HEAD if self.encoder_head is not None else ():
            stored[f"encoder_{name}"] = getattr(self.encoder_head, name)
        return {name: tensor.float().contiguous() for name, tensor in stored.items()}

    @classmethod
    def from_tensors(cls, stored: dict[str, Tensor], prompts: int, labels: int, hidden: int) -> "Classifier":
        """What `tensors` gave; raises ValueError for any other names or shapes, or numbers that are not finite."""
        if {name: tuple(tensor.shape) for name, tensor in stored.items()} != _shapes(stored, prompts, labels, hidden):
            raise ValueError("The classifier's tensors do not have the expected shapes.")
        if not all(tensor.isfinite().all() for tensor in stored.values()):
            raise ValueError("The classifier holds numbers that are not finite.")
        states = range(prompts if "state_weight" in stored else 0)
        has_encoder, cheap = "encoder_weight" in stored, "cheap_weights" in stored
        shortlist = int(stored["shortlist"].item()) if "shortlist" in stored else None
        if shortlist is not None and not (0 <= shortlist <= labels and cheap):
            raise ValueError("The classifier's shortlist is not one.")
        return cls(
            score_bias=stored["score_bias"],
            mixture=Mixture(stored["weights"], stored["bias"]),
            state_heads=tuple(Head(*(stored[f"state_{name}"][prompt] for name in _HEAD)) for prompt in states),
            encoder_head=Head(*(stored[f"encoder_{name}"] for name in _HEAD)) if has_encoder else None,
            encoder_change=stored.get("encoder_change"),
            shortlist=shortlist,
            cheap=Mixture(stored["cheap_weights"], stored["cheap_bias"]) if cheap else None,
        )


def _shapes(stored: dict[str, Tensor], prompts: int, labels: int, hidden: int) -> dict[str, tuple[int, ...]]:
    """The shapes that the tensors must have, as far as their names say what there is."""
    has_states, has_encoder = "state_weight" in stored, "encoder_weight" in stored
    heads = has_states + has_encoder
    shapes: dict[str, tuple[int, ...]] = {"score_bias": (prompts, labels), "weights": (1 + heads,), "bias": (labels,)}
    if "cheap_weights" in stored and heads:
        shapes |= {"cheap_weights": (heads,), "cheap_bias": (labels,)}
    if "shortlist" in stored:
        shapes["shortlist"] = (1,)
    if has_states:
        several = (prompts, len(VIEWS), hidden)
        shapes |= {"state_center": several, "state_scale": several}
        shapes |= {"state_weight": (*several, labels), "state_bias": (prompts, labels)}
    if has_encoder:
        weight = stored["encoder_weight"]
        views, size = (max(1, weight.shape[0]), weight.shape[1]) if weight.dim() == 3 else (1, 0)
        shapes |= {"encoder_center": (views, size), "encoder_scale": (views, size)}
        shapes |= {"encoder_weight": (views, size, labels), "encoder_bias": (labels,)}
    if has_encoder and "encoder_change" in stored:
        shapes["encoder_change"] = (2, stored["encoder_change"].numel() // 2)
    return shapes


def label_part(scores: Sequence[Tensor], bias: Tensor) -> Tensor:
    """[N, L] log-probabilities, averaged over prompts, from label scores [N, L] under each less its bias [L]."""
    under = [(one.double() - less).log_softmax(1) for one, less in zip(scores, bias, strict=True)]
    return torch.stack(under).mean(0).log_softmax(1)
