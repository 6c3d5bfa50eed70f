"""The frozen causal language model, run on packed rows over a shared context.

Models reach `attend` through transformers' attention interface; BLOOM, which has none, through its attention module's
class. What a pass attends to is handed over in a context variable, since not every architecture passes it on.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.models.bloom.modeling_bloom import BloomAttention

from worker.cpt.kernels.linear import FrozenLinear
from worker.cpt.kernels.norm import FusedNorm
from worker.cpt.model.alibi import alibi_slopes
from worker.cpt.model.attention import attend
from worker.cpt.model.packing import Packing
from worker.cpt.model.support import check_supported

KeysValues = list[tuple[Tensor, Tensor]]  # per layer, each [G, T, D]

_NAME = "contextune"

#: What models tell their attention function besides, and passes may disregard: dropout is off, positions are in the
#: rotated keys already, windows bound the context length, and the rest concerns the whole model's output.
_DISREGARDED: Final = {
    "cache_position",
    "dropout",
    "is_causal",
    "logits_to_keep",
    "max_length_k",
    "max_length_q",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "position_ids",
    "return_dict",
    "scaling",
    "sliding_window",
    "use_cache",
}


@dataclass
class _Pass:
    """Rows that follow `context`, and perhaps rows (`riders`) that follow context and rows both, in the same pass."""

    packing: Packing
    context: Sequence[tuple[Tensor, Tensor]] | None
    riders: Packing | None
    own: KeysValues = field(default_factory=list)

    @property
    def positions(self) -> Tensor:
        """[N] place of each token in its sequence."""
        parts = [self.packing.positions] + ([self.riders.positions] if self.riders else [])
        return torch.cat(parts)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, layer: int, scale: float) -> Tensor:
        """[1, heads, N, D] each, as models have them; returns [1, N, H, D] of the value's size D."""
        rows, size = len(self.packing.positions), value.shape[-1]
        query, key, value = _of_one_size(query, key, value)
        own = key[0][:, :rows], value[0][:, :rows]
        self.own.append(own)
        context = self.context[layer] if self.context else None
        output = attend(query[0][:, :rows], *own, context, self.packing, scale)
        if self.riders is not None:
            before = tuple(torch.cat(pair, 1) for pair in zip(context, own, strict=True)) if context else own
            rest = query[0][:, rows:], key[0][:, rows:], value[0][:, rows:]
            output = torch.cat([output, attend(*rest, (before[0], before[1]), self.riders, scale)], 1)
        return output.transpose(0, 1)[None, ..., :size]


_current: ContextVar[_Pass | None] = ContextVar("contextune_pass", default=None)


def prepare(model: Any) -> None:
    """Freeze a transformers model and route its attention and its linear layers here; it stays usable as before.

    Doing it again is free.

    Raises:
        ValueError: the architecture has a feature that is not supported.
    """
    check_supported(model.config)
    model.eval().requires_grad_(False)
    looked_up = model.get_input_embeddings().weight
    for module in model.modules():
        if type(module) is nn.Linear:
            FrozenLinear.convert(module, shared=module.weight is looked_up)
        elif model.device.type == "cuda":
            FusedNorm.convert(module)
    if model.config.model_type == "bloom":
        for module in model.modules():
            if type(module) is BloomAttention:
                module.__class__ = _AlibiAttention
    elif model.config._attn_implementation != _NAME:
        AttentionInterface.register(_NAME, _attention)
        AttentionMaskInterface.register(_NAME, sdpa_mask)
        model.set_attn_implementation(_NAME)


def run(
    model: Any,
    embeds: Tensor,
    packing: Packing,
    context: Sequence[tuple[Tensor, Tensor]] | None = None,
    logits_at: Tensor | None = None,
    riders: Packing | None = None,
) -> tuple[Tensor, KeysValues]:
    """One pass of a prepared model over packed `embeds` [N, H] that follow `context`.

    The last of them may be `riders`, which follow the others as well.

    Returns the logits [n, V] at the packed places `logits_at` [n] (the last one, if not given) and the rows' own keys
    and values per layer [G, N, D].
    """
    places = torch.tensor([len(embeds) - 1], device=embeds.device) if logits_at is None else logits_at
    current = _Pass(packing, context, riders)
    positions = _positions(model, embeds, current)
    with _passing(current):
        output = model(inputs_embeds=embeds[None].to(model.dtype), use_cache=False, logits_to_keep=places, **positions)
    return output.logits[0], current.own


def state_layers(model: Any) -> int:
    """Number of the last hidden state that has the hidden size: some models project the very last one down."""
    config = model.config.get_text_config()
    projected = getattr(config, "word_embed_proj_dim", config.hidden_size) != config.hidden_size
    return int(config.num_hidden_layers) - projected


def run_with_states(
    model: Any,
    embeds: Tensor,
    packing: Packing,
    context: Sequence[tuple[Tensor, Tensor]],
    logits_at: Tensor,
    layers: Sequence[int],
) -> tuple[Tensor, list[Tensor], KeysValues]:
    """What `run` returns, between both the hidden states [N, H] of each of `layers`, 0 being the embeddings."""
    current = _Pass(packing, context, None)
    with _passing(current):
        output = model(
            inputs_embeds=embeds[None].to(model.dtype),
            use_cache=False,
            output_hidden_states=True,
            logits_to_keep=logits_at,
            **_positions(model, embeds, current),
        )
    return output.logits[0], [output.hidden_states[layer][0] for layer in layers], current.own


def _positions(model: Any, embeds: Tensor, current: _Pass) -> dict[str, Tensor]:
    if model.config.model_type == "bloom":  # has no positions but those in its attention
        return {}
    return {"position_ids": current.positions[None], "attention_mask": embeds.new_zeros(1, 1, 1, 1)}


def word_embeddings(model: Any, ids: Sequence[int]) -> Tensor:
    """[N, H] embeddings of token ids, as the model looks them up."""
    embedding = model.get_input_embeddings()
    found: Tensor = embedding(torch.tensor(ids, device=next(embedding.parameters()).device)).detach()
    return found


@contextlib.contextmanager
def _passing(current: _Pass) -> Iterator[_Pass]:
    token = _current.set(current)
    try:
        yield current
    finally:
        _current.reset(token)


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """transformers' attention interface: its own SDPA outside of our passes."""
    current = _current.get()
    if current is None:
        output: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
        return output
    _check_heeded(module, kwargs)
    scaling = kwargs.get("scaling")
    scale = 1 / math.sqrt(query.shape[-1]) if scaling is None else scaling
    return current.attend(query, key, value, module.layer_idx, scale), None


def _check_heeded(module: Any, told: dict[str, Any]) -> None:
    """Refuse what changes attention in a way that passes do not know, such as sinks or soft caps."""
    unknown = sorted(name for name, value in told.items() if value is not None and name not in _DISREGARDED)
    if unknown:
        raise ValueError(f"{type(module).__name__}: attention with {', '.join(unknown)} is not supported.")
    if told.get("is_causal") is False:
        raise ValueError(f"{type(module).__name__}: attention that is not causal is not supported.")


def _of_one_size(*tensors: Tensor) -> list[Tensor]:
    """Zeros at the end of heads that are smaller: kernels want one size, and scores and outputs stay the same."""
    largest = max(tensor.shape[-1] for tensor in tensors)
    return [
        functional.pad(tensor, (0, largest - tensor.shape[-1])) if tensor.shape[-1] < largest else tensor
        for tensor in tensors
    ]


class _AlibiAttention(BloomAttention):
    """BLOOM's attention with its position bias folded into one more dimension of queries and keys.

    score = q·k / sqrt(d) + slope · position = [q, 1] · [k, slope · position · sqrt(d)] / sqrt(d)
    """

    def forward(self, hidden_states: Tensor, residual: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Any]:
        current = _current.get()
        if current is None:
            outputs: tuple[Tensor, Any] = super().forward(hidden_states, residual, *args, **kwargs)
            return outputs
        query, key, value = self._reshape(self.query_key_value(hidden_states))  # each [1, H, N, d]
        slopes = alibi_slopes(self.num_heads, key.device) / self.inv_norm_factor  # [H]
        bias = (slopes[:, None] * current.positions)[None, :, :, None].to(key.dtype)  # [1, H, N, 1]
        query = torch.cat([query, torch.ones_like(bias)], -1)
        key = torch.cat([key, bias], -1)
        output = current.attend(query, key, value, self.layer_idx, self.inv_norm_factor)
        return residual + self.dense(output.flatten(2)), None
