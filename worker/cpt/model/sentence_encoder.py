"""A sentence encoder: a text becomes a vector for each of some layers. Knows texts and vectors, not labels.

Its weights are frozen. A change of its upper layers (see `scale_shift`) may be put on it for as long as texts are read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from worker.cpt.kernels.copies import on_device, on_host
from worker.cpt.kernels.lanes import lanes, side_by_side
from worker.cpt.kernels.linear import FrozenLinear
from worker.cpt.model.packing import passes
from worker.cpt.model.scale_shift import UpperLayers
from worker.cpt.turn import ALONE, Turn

#: Texts are read up to here (tokens).
MAX_TEXT_TOKENS: Final = 256
#: Tokens of a pass, padding left out, by kind of device: what fits into a CPU's caches, or keeps a GPU busy.
_PASS_TOKENS: Final = {"cpu": 1024, "cuda": 8192}
#: Layers that are read, as shares of the depth. The last is made for likeness of meaning; one below keeps more of how a
#: text is put: what kind of question it is (trec, k = 16: 58% right by the last alone, 76% by both).
_DEPTHS: Final = (1.0, 2 / 3)

Pooling = Literal["mean", "first"]


@dataclass(frozen=True)
class SentenceEncoder:
    """A bidirectional transformers model, how a layer's states become one vector, and what it wants before a text.

    `name` is what users know it by, `fingerprint` the SHA-256 of the files it was loaded from.
    """

    name: str
    model: Any
    tokenizer: Any
    pooling: Pooling
    prompt: str
    fingerprint: str

    @property
    def size(self) -> int:
        """Numbers in a vector."""
        return int(self.model.config.hidden_size)

    @property
    def layers(self) -> tuple[int, ...]:
        """Numbers of the layers that are read, the last first."""
        depth = int(self.model.config.num_hidden_layers)
        return tuple(sorted({max(1, round(share * depth)) for share in _DEPTHS}, reverse=True))

    @property
    def pass_parameters(self) -> int:
        """Parameters that every token is multiplied with."""
        return sum(weight.numel() for layer in _linears(self.model) for weight in layer.parameters())

    @cached_property
    def upper(self) -> UpperLayers:
        """The layers that a change may be put on."""
        return UpperLayers.of(self.model)

    def prepare(self) -> "SentenceEncoder":
        """Freeze the model and route its linear layers to the CPU's fast products."""
        self.model.eval().requires_grad_(False)
        for layer in _linears(self.model):
            if type(layer) is nn.Linear:
                FrozenLinear.convert(layer, shared=False)
        return self

    def embed(self, texts: Sequence[str], turn: Turn = ALONE, change: Tensor | None = None) -> Tensor:
        """[V, N, H] vectors of length 1 of V layers, float32 on the CPU; the turn is offered before each pass.

        A text's vector does not depend, but for rounding, on what else is embedded with it. change: [2, C] float32 of
        the upper layers, None for none.
        """
        if not texts:
            return torch.zeros(len(self.layers), 0, self.size)
        rows, device = self.tokens(texts), self.model.device
        found = torch.zeros(len(self.layers), len(rows), self.size)
        put_on = None if change is None else change.to(device)
        for several in self.passes(rows):
            turn.offer()
            work = [partial(self._read, [rows[number] for number in numbers]) for numbers in several]
            with self.upper.changed(put_on):
                read = side_by_side(work)
            for numbers, vectors in zip(several, read, strict=True):
                found[:, numbers] = vectors
        return found

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text, with what is wanted before it."""
        asked = [self.prompt + text for text in texts]
        ids: list[list[int]] = self.tokenizer(
            asked, truncation=True, max_length=MAX_TEXT_TOKENS, split_special_tokens=True
        )["input_ids"]
        return ids

    def passes(self, rows: Sequence[Sequence[int]]) -> list[list[list[int]]]:
        """Numbers of the rows of tokens that are read in a pass, some passes side by side."""
        device = self.model.device
        pass_tokens = _PASS_TOKENS.get(device.type, _PASS_TOKENS["cpu"])
        return passes([len(row) for row in rows], pass_tokens, at_once=lanes(device))

    def last_vectors(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """[B, H] vectors of length 1 of the last layer, of rows of tokens, on the device; of a single pass.

        Differentiable by a change that is put on.
        """
        ids, mask = self._padded(rows)
        states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        return functional.normalize(self._pooled(states.float(), mask), dim=1)

    @torch.inference_mode()
    def _read(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """[V, B, H] of one pass."""
        ids, mask = self._padded(rows)
        read = self.model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        below = [read.hidden_states[layer] for layer in self.layers[1:]]
        # The last by its own name: some models normalise it once more.
        vectors = torch.stack([self._pooled(states.float(), mask) for states in (read.last_hidden_state, *below)])
        return on_host((functional.normalize(vectors, dim=2),))[0]

    def _padded(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Tokens [B, T] and which of them are none of the padding [B, T], on the device."""
        longest = max(map(len, rows))
        padding = self.tokenizer.pad_token_id or 0
        padded = torch.tensor([[*row, *[padding] * (longest - len(row))] for row in rows])
        seen = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        ids, mask = on_device((padded, seen), self.model.device)
        return ids, mask

    def _pooled(self, states: Tensor, mask: Tensor) -> Tensor:
        """[B, H] of the states [B, T, H] of a layer."""
        if self.pooling == "first":
            return states[:, 0]
        return (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def _linears(model: Any) -> list[nn.Linear]:
    return [module for module in model.modules() if isinstance(module, nn.Linear)]
