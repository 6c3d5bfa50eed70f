"""A trial of a loaded base model: whether passes over packed rows compute what the model itself computes."""

from typing import Any, Final

import torch
from torch import Tensor

from worker.cpt.model import base_model
from worker.cpt.model.packing import Packing
from worker.cpt.model.support import context_length

_CONTEXT: Final = 5
_TOKENS: Final = 9
#: Difference of the logits, relative to their norm, that rounding explains.
_TOLERANCE: Final = 1e-3
_HALF_TOLERANCE: Final = 0.1


@torch.inference_mode()
def try_out(model: Any) -> None:
    """Run a few tokens as a context with a query after it, and whole by transformers' own attention.

    Raises:
        ValueError: they differ, or the model tells attention something that passes cannot heed.
    """
    name = type(model).__name__
    base_model.prepare(model)
    tokens = min(_TOKENS, context_length(model.config))
    ids = [number % model.config.get_text_config().vocab_size for number in range(3, 3 + tokens)]
    try:
        ours = _in_passes(model, ids)
    except ValueError:
        raise
    except Exception as error:  # the code of any architecture may raise anything
        raise ValueError(f"{name}: it cannot run over packed rows: {error}") from error
    plain = model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0, _CONTEXT:].float()
    difference = ((ours - plain).norm() / plain.norm()).item()
    if not difference <= (_TOLERANCE if model.dtype in {torch.float32, torch.float64} else _HALF_TOLERANCE):
        raise ValueError(
            f"{name}: after a shared context it would answer otherwise: logits differ by {difference:.1e}."
        )


def _in_passes(model: Any, ids: list[int]) -> Tensor:
    """[n, V] float32 logits of the tokens after the context."""
    embeds = base_model.word_embeddings(model, ids)
    _, context = base_model.run(model, embeds[:_CONTEXT], Packing.causal([_CONTEXT], 0, model.device))
    rest = len(ids) - _CONTEXT
    packing, places = Packing.causal([rest], _CONTEXT, model.device), torch.arange(rest, device=model.device)
    return base_model.run(model, embeds[_CONTEXT:], packing, context, places)[0].float()
