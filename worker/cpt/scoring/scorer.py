"""Exact log-probabilities of labels for queries over a shared prefix, and hidden states, in one pass per batch.

A query's row is its tokens followed by the inner nodes of the labels' trie, which see the query and their ancestors; a
label's last token is never run, only read. The states of a query are those that the same pass computes anyway.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from worker.cpt.kernels.lanes import lanes, side_by_side
from worker.cpt.model import base_model
from worker.cpt.model.packing import Packing, hide, passes
from worker.cpt.model.sizes import Sizes
from worker.cpt.scoring.prefix import PrefixKV
from worker.cpt.scoring.rectangle import read_rectangle
from worker.cpt.scoring.trie import LabelTrie
from worker.cpt.scoring.views import VIEWS, View
from worker.cpt.turn import ALONE, Turn


@dataclass(frozen=True)
class Reading:
    """Label scores [Q, L] and states [V, Q, H] of queries, float32 on the CPU; L or V is 0 where none are wanted."""

    scores: Tensor
    states: Tensor


def score(
    model: Any,
    prefix: PrefixKV,
    label_ids: Sequence[Sequence[int]],
    queries: Sequence[Sequence[int]],
    *,
    normalise: bool = False,
    hidden: Sequence[Tensor] | None = None,
    sizes: Sizes | None = None,
    turn: Turn = ALONE,
) -> Tensor:
    """Log-probability [Q, L] of all tokens of each label after prefix and query, float32 on the CPU.

    With `normalise` the sum is divided by the label's number of tokens. For the rest see `read`.
    """
    trie = LabelTrie.build(label_ids)
    tries = [trie] * len(queries)
    if not queries:
        return torch.zeros(0, len(label_ids))
    scores = read(model, prefix, tries, queries, views=(), hidden=hidden, sizes=sizes, turn=turn).scores
    return scores / torch.tensor([len(label) for label in label_ids]) if normalise else scores


def read(
    model: Any,
    prefix: PrefixKV,
    tries: Sequence[LabelTrie],
    queries: Sequence[Sequence[int]],
    *,
    views: Sequence[View] = VIEWS,
    hidden: Sequence[Tensor] | None = None,
    sizes: Sizes | None = None,
    turn: Turn = ALONE,
) -> Reading:
    """The scores of each query's labels and its states. All tries hold as many labels.

    What is read of a query does not depend, but for rounding, on what else is read with it. `hidden` marks, for each
    query, the tokens of the prefix [T] bool that it may not see. `sizes` bound a pass: a query that has more tokens is
    read piece by piece. Those of the model's device, if not given. The turn is offered before each pass of the model,
    or several side by side.

    Raises:
        ValueError: an empty query or label.
    """
    if not all(queries):
        raise ValueError("Queries must have tokens.")
    config = model.config.get_text_config()
    labels = len(tries[0].paths) if tries else 0
    found = Reading(torch.zeros(len(queries), labels), torch.zeros(len(views), len(queries), config.hidden_size))
    nodes = max((1 + len(trie.tokens) for trie in tries), default=1)
    sizes = sizes or Sizes.of(model)
    most = sizes.pass_logits / (config.vocab_size * nodes)

    def keep(numbers: Sequence[int], scores: Tensor, states: Tensor) -> None:
        found.scores[numbers] = scores
        if views:  # without, the states have no size: embeddings may be narrower than hidden states
            found.states[:, numbers] = states

    def pass_over(numbers: Sequence[int]) -> None:
        marks = None if hidden is None else [hidden[number] for number in numbers]
        rows = [(queries[number], tries[number]) for number in numbers]
        if model.device.type == "cuda" and marks is None and len({id(trie) for _, trie in rows}) == 1:
            scores, states = read_rectangle(model, prefix, rows[0][1], [query for query, _ in rows], views)
        else:
            scores, states, _ = _read_pass(model, prefix, rows, views, marks)
        keep(numbers, scores, states)

    long = [number for number, query in enumerate(queries) if len(query) > sizes.pass_tokens]
    short = [number for number, query in enumerate(queries) if len(query) <= sizes.pass_tokens]
    lengths = [len(queries[number]) + len(tries[number].tokens) for number in short]
    for several in passes(lengths, sizes.pass_tokens, most=most, at_once=lanes(model.device)) if short else []:
        turn.offer()
        side_by_side([partial(pass_over, [short[place] for place in places]) for places in several])
    for number in long:
        marks = None if hidden is None else hidden[number]
        row = queries[number], tries[number]
        keep([number], *_read_pieces(model, prefix, row, views, marks, sizes.pass_tokens, turn))
    return found


_Row = tuple[Sequence[int], LabelTrie]
_Rows = Sequence[_Row]


def _read_pieces(
    model: Any,
    prefix: PrefixKV,
    row: _Row,
    views: Sequence[View],
    hidden: Tensor | None,
    piece_tokens: int,
    turn: Turn,
) -> tuple[Tensor, Tensor]:
    """Scores [1, L] and states [V, 1, H] of a query that is read so many tokens at a time, each after those before."""
    query, trie = row
    pieces = [query[start : start + piece_tokens] for start in range(0, len(query), piece_tokens)]
    whole = torch.zeros(len(views), 1, 1)
    for piece in pieces:
        turn.offer()
        marks = None if hidden is None else [functional.pad(hidden, (0, prefix.tokens - len(hidden)))]
        following = trie if piece is pieces[-1] else LabelTrie.empty()
        scores, states, own = _read_pass(model, prefix, [(piece, following)], views, marks)
        whole = whole + states * len(piece) / len(query)
        if piece is not pieces[-1]:
            prefix = prefix.followed_by(own)
    at_last = torch.tensor([view.at == "last" for view in views], dtype=torch.bool)
    return scores, torch.where(at_last[:, None, None], states, whole)


@torch.inference_mode()
def _read_pass(
    model: Any, prefix: PrefixKV, rows: _Rows, views: Sequence[View], hidden: Sequence[Tensor] | None
) -> tuple[Tensor, Tensor, base_model.KeysValues]:
    """Scores [B, L] and states [V, B, H] of the queries of one pass, and the keys and values of its tokens."""
    embeds = base_model.word_embeddings(model, [token for query, trie in rows for token in (*query, *trie.tokens)])
    packing = _packing(prefix.tokens, rows, model.device, hidden)
    places = _read_at(rows).to(model.device)
    layers = [view.layer(base_model.state_layers(model)) for view in views]
    if views:
        logits, states, own = base_model.run_with_states(model, embeds, packing, prefix.layers, places, layers)
    else:
        logits, own = base_model.run(model, embeds, packing, prefix.layers, places)
        states = []
    return _scores(logits, rows), _pooled(states, rows, views, embeds), own


def _scores(logits: Tensor, rows: _Rows) -> Tensor:
    """[B, L] from the logits of the ends and inner nodes of all rows."""
    labels, device = len(rows[0][1].paths), logits.device
    if not labels:
        return torch.zeros(len(rows), 0)
    nodes, tokens, owners = _entries([trie for _, trie in rows]).to(device).T
    logits = logits.float()
    found = logits[nodes, tokens]
    found -= _logsumexp_(logits)[nodes]
    return found.new_zeros(len(rows) * labels).index_add_(0, owners, found).view(len(rows), labels).cpu()


def _entries(tries: Sequence[LabelTrie]) -> Tensor:
    """[E, 3] what is read of a pass: place among the ends and inner nodes of all rows, token, place in [B * L]."""
    read_at = torch.tensor([1 + len(trie.tokens) for trie in tries])
    firsts = torch.stack([read_at.cumsum(0) - read_at, torch.arange(len(tries)) * len(tries[0].paths)], 1)  # [B, 2]
    found = torch.cat([trie.entries for trie in tries])
    found[:, ::2] += firsts.repeat_interleave(torch.tensor([len(trie.entries) for trie in tries]), 0)
    return found


def _pooled(states: Sequence[Tensor], rows: _Rows, views: Sequence[View], embeds: Tensor) -> Tensor:
    """[V, B, H] of the queries' own tokens, those of the tries left out."""
    lengths = torch.tensor([len(query) for query, _ in rows])
    wholes = torch.tensor([len(query) + len(trie.tokens) for query, trie in rows])
    starts = wholes.cumsum(0) - wholes
    within = torch.arange(int(wholes.sum())) - starts.repeat_interleave(wholes)
    own = (within < lengths.repeat_interleave(wholes)).to(embeds.device)
    owners = torch.arange(len(rows)).repeat_interleave(lengths).to(embeds.device)
    ends, counts = (starts + lengths - 1).to(embeds.device), lengths[:, None].to(embeds.device)
    found = [
        state[ends].float()
        if view.at == "last"
        else state.new_zeros(len(rows), state.shape[1], dtype=torch.float32).index_add_(0, owners, state[own].float())
        / counts
        for view, state in zip(views, states, strict=True)
    ]
    return torch.stack(found).cpu() if found else torch.zeros(0, len(rows), embeds.shape[1])


def _logsumexp_(logits: Tensor) -> Tensor:
    """[...] over the last dimension of logits [..., V], which are used up: a second copy of them would cost more."""
    most = logits.amax(-1, keepdim=True)
    return logits.sub_(most).exp_().sum(-1).log_() + most.squeeze(-1)


def _read_at(rows: _Rows) -> Tensor:
    """Packed places of each query's last token and of its inner nodes, row after row."""
    places, start = [], 0
    for query, trie in rows:
        end = start + len(query) + len(trie.tokens)
        places.append(torch.arange(start + len(query) - 1, end))
        start = end
    return torch.cat(places)


def _packing(offset: int, rows: _Rows, device: torch.device, hidden: Sequence[Tensor] | None) -> Packing:
    """Rows of queries, each followed by its trie's inner nodes."""
    trunks, lengths = [len(query) for query, _ in rows], [len(query) + len(trie.tokens) for query, trie in rows]
    packing = Packing.causal(lengths, offset, device, None if hidden is None else hide(lengths, hidden))
    if not any(trie.tokens for _, trie in rows):
        return packing
    return packing.branching(trunks, [trie.tree for _, trie in rows])
