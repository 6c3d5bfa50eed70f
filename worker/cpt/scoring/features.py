"""What the frozen model makes of a text alone: hidden states that a head predicts labels from.

Causal models see only what comes before a token, so a text is written in two ways that let its last tokens know all
of it: twice, read over the second copy (echo embeddings, arXiv 2402.15449), and before a question for one word, read at
the end (PromptEOL, arXiv 2307.16645). Each is read at two depths: early layers know topics, late ones what is meant.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

import torch
from torch import Tensor

from worker.cpt.kernels.lanes import lanes, side_by_side
from worker.cpt.model import base_model
from worker.cpt.model.packing import Packing, passes
from worker.cpt.turn import ALONE, Turn

#: Texts are read up to here (tokens).
TEXT_TOKENS: Final = 256
#: The ways of writing a text.
_PROMPTS: Final = ("echo", "one_word")
#: How often a text is written for all its features.
TEXT_COPIES: Final = 3
#: Tokens of a pass, unless a single text has more.
_PASS_TOKENS: Final = 1024
#: Room that both ways of writing take besides the text (tokens), with a tokenizer of single bytes.
_FRAME_TOKENS: Final = 64


@dataclass(frozen=True)
class View:
    """One feature vector of a text: how it is written, and after which share of the layers it is read."""

    prompt: Literal["echo", "one_word"]
    depth: float

    def layer(self, layers: int) -> int:
        """Number of the hidden state, 0 being the embeddings."""
        return round(self.depth * layers)


VIEWS: Final = (View("echo", 0.27), View("echo", 0.93), View("one_word", 0.8), View("one_word", 0.93))


@dataclass(frozen=True)
class _Row:
    """A written text: its ids, and the first token that is read; all from there to the end are averaged."""

    ids: list[int]
    read_from: int


def features(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    context_length: int,
    turn: Turn = ALONE,
) -> Tensor:
    """Feature vectors [V, N, H] of texts, one for each of `VIEWS`, float32 on the CPU.

    A text's features do not depend on what else is read with it. `context_length` is the model's, in tokens.
    The turn is offered before each pass of the model.
    """
    base_model.prepare(model)
    limit = min(TEXT_TOKENS, (context_length - _FRAME_TOKENS) // 2)
    rows = [_write(tokenizer, prompt, text, limit) for prompt in _PROMPTS for text in texts]
    config = model.config.get_text_config()
    layers = sorted({view.layer(config.num_hidden_layers) for view in VIEWS})
    read = partial(_read, model, rows, layers)
    states = torch.zeros(len(layers), len(rows), config.hidden_size)
    for several in passes([len(row.ids) for row in rows], _PASS_TOKENS, at_once=lanes(model.device)):
        turn.offer()
        for numbers, found in zip(several, side_by_side([partial(read, numbers) for numbers in several]), strict=True):
            states[:, numbers] = found
    by_prompt = states.unflatten(1, (len(_PROMPTS), len(texts)))
    return torch.stack(
        [by_prompt[layers.index(view.layer(config.num_hidden_layers)), _PROMPTS.index(view.prompt)] for view in VIEWS]
    )


def _write(tokenizer: Any, prompt: str, text: str, limit: int) -> _Row:
    # The first token draws attention whatever it is (arXiv 2309.17453): it must not be one of the text's.
    sink = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    first = [] if sink is None else [sink]
    if prompt == "echo":
        before = first + _ids(tokenizer, text)[:limit] + _ids(tokenizer, "\nIn other words:")
        return _Row(before + _ids(tokenizer, " " + text)[:limit], read_from=len(before))
    before = first + _ids(tokenizer, 'This text: "') + _ids(tokenizer, text)[:limit]
    ids = before + _ids(tokenizer, '" means in one word: "')
    return _Row(ids, read_from=len(ids) - 1)


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return ids


@torch.inference_mode()
def _read(model: Any, all_rows: Sequence[_Row], layers: Sequence[int], numbers: Sequence[int]) -> Tensor:
    """[D, B, H] for D layers and the rows with these numbers."""
    rows = [all_rows[number] for number in numbers]
    lengths = [len(row.ids) for row in rows]
    embeds = base_model.word_embeddings(model, [token for row in rows for token in row.ids])
    packing = Packing.causal(lengths, 0, model.device)
    states = base_model.hidden_states(model, embeds, packing, layers)
    owners = torch.arange(len(rows)).repeat_interleave(torch.tensor(lengths))
    read = torch.cat([torch.arange(len(row.ids)) >= row.read_from for row in rows])
    counts = torch.tensor([len(row.ids) - row.read_from for row in rows])[:, None]
    sums = [
        state.new_zeros(len(rows), state.shape[1]).index_add_(0, owners[read], state[read])
        for state in (each.float().cpu() for each in states)
    ]
    return torch.stack(sums) / counts
