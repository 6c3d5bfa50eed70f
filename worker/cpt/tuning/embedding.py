"""The trainable part: the context's token embeddings and what is learned on top of them."""

from typing import cast

import torch
from torch import Tensor, nn

from worker.cpt.tuning.config import CPTConfig
from worker.cpt.tuning.projection import AT_BOUNDARY, epsilon, project, reference_unit, trainable


class CPTEmbedding(nn.Module):
    """`embedding` (frozen word embeddings of the context, float32) plus `delta_embedding` (zero at the start).

    `word_embeddings` is the base model's embedding module or its weight [V, H]. `unit` is the radius that an epsilon of
    1 stands for, the reference's if not given. Parameter names are the reference's.
    """

    epsilon: Tensor
    learned: Tensor

    def __init__(self, config: CPTConfig, word_embeddings: nn.Module | Tensor, unit: float | None = None) -> None:
        super().__init__()
        initial = _look_up(word_embeddings, config.token_ids)
        self.embedding = nn.Embedding.from_pretrained(initial, freeze=True)  # [T, H]
        self.delta_embedding = nn.Embedding.from_pretrained(torch.zeros_like(initial), freeze=False)  # [T, H]
        radius = epsilon(config, reference_unit(initial.shape[1]) if unit is None else unit)  # [T]
        self.register_buffer("epsilon", radius.to(initial.device), persistent=False)
        learned = trainable(config.token_types).to(initial.device)  # [T]
        self.register_buffer("learned", learned, persistent=False)
        self.delta_embedding.weight.register_hook(lambda grad: grad * learned[:, None].to(grad))

    @property
    def tokens(self) -> int:
        """Tokens of the context."""
        return len(self.epsilon)

    def forward(self, indices: Tensor) -> Tensor:
        """Embeddings [..., H] of the context tokens at `indices` [...], after stepping back into the ball."""
        self.project_()
        return cast("Tensor", self.embedding(indices) + self.delta_embedding(indices))

    @torch.no_grad()
    def project_(self) -> None:
        """Scale deltas that left their ball back to its surface, in place."""
        self.delta_embedding.weight.copy_(project(self.delta_embedding.weight, self.epsilon))

    @torch.no_grad()
    def at_epsilon(self) -> float:
        """The share of the tokens that are learned whose delta is at the boundary of its ball."""
        if not self.learned.any():
            return 0.0
        used = self.delta_embedding.weight.norm(dim=1) / self.epsilon
        return (used >= AT_BOUNDARY)[self.learned].double().mean().item()

    @torch.no_grad()
    def tuned(self) -> Tensor:
        """The context's embeddings [T, H], as queries see them."""
        return self.embedding.weight + project(self.delta_embedding.weight, self.epsilon)


@torch.no_grad()
def _look_up(word_embeddings: nn.Module | Tensor, ids: list[int]) -> Tensor:
    if isinstance(word_embeddings, Tensor):
        return word_embeddings[torch.tensor(ids, device=word_embeddings.device)].float()
    device = next(word_embeddings.parameters()).device
    # The module is called, not indexed: some models scale their embeddings on look-up.
    return cast("Tensor", word_embeddings(torch.tensor(ids, device=device))).detach().clone().float()
