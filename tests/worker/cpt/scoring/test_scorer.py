from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.worker.turns import TurnEnded, Watched
from worker.cpt.encoding.context import Context, encode_labels, encode_query
from worker.cpt.encoding.template import Template
from worker.cpt.model.base_model import word_embeddings
from worker.cpt.model.sizes import ON_CPU
from worker.cpt.scoring.prefix import PrefixKV
from worker.cpt.scoring.scorer import read, score
from worker.cpt.scoring.trie import LabelTrie
from worker.cpt.scoring.views import VIEWS

CONTEXT = [1, 20, 21, 22, 23, 24, 25]
QUERIES = [[30, 31, 32], [40, 41, 42, 43, 44, 45], [50]]
LABELS = [[60], [61, 62], [61, 63, 64], [61, 63, 65], [66, 67]]


@torch.no_grad()
def plain_scores(model: Any, context: Tensor, queries: list[list[int]], labels: list[list[int]]) -> Tensor:
    """One ordinary, uncached forward per query and label."""
    scores = torch.zeros(len(queries), len(labels))
    for i, query in enumerate(queries):
        for j, label in enumerate(labels):
            row = torch.cat([context, word_embeddings(model, query + label)])[None]
            log_p = model(inputs_embeds=row).logits[0, -len(label) - 1 : -1].log_softmax(-1)
            scores[i, j] = log_p[range(len(label)), label].sum()
    return scores


@pytest.mark.parametrize("labels", [LABELS, [[60], [66]]])
def test_scores_are_those_of_uncached_forwards(model: Any, labels: list[list[int]]) -> None:
    embeds = word_embeddings(model, CONTEXT)
    expected = plain_scores(model, embeds, QUERIES, labels)
    ours = score(model, PrefixKV.compute(model, embeds), labels, QUERIES)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


def test_scores_do_not_depend_on_the_batch(model: Any) -> None:
    prefix = PrefixKV.compute(model, word_embeddings(model, CONTEXT))
    together = score(model, prefix, LABELS, QUERIES)
    alone = torch.cat([score(model, prefix, LABELS, [query]) for query in QUERIES])
    split = score(model, prefix, LABELS, QUERIES, sizes=replace(ON_CPU, pass_tokens=1))
    reversed_order = score(model, prefix, LABELS, QUERIES[::-1]).flip(0)
    for other in (alone, split, reversed_order):
        torch.testing.assert_close(together, other, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def plain_states(model: Any, context: Tensor, query: list[int]) -> Tensor:
    """[V, H] of one ordinary, uncached forward."""
    row = torch.cat([context, word_embeddings(model, query)])[None]
    states = model(inputs_embeds=row, output_hidden_states=True).hidden_states
    layers = [view.layer(len(states) - 1) for view in VIEWS]
    own = [states[layer][0, -len(query) :] for layer in layers]
    return torch.stack([one[-1] if view.at == "last" else one.mean(0) for view, one in zip(VIEWS, own, strict=True)])


@pytest.mark.parametrize("labels", [LABELS, []])
def test_states_are_those_of_uncached_forwards_whatever_labels_are_scored(model: Any, labels: list[list[int]]) -> None:
    embeds = word_embeddings(model, CONTEXT)
    trie = LabelTrie.build(labels) if labels else LabelTrie.empty()
    found = read(model, PrefixKV.compute(model, embeds), [trie] * len(QUERIES), QUERIES)
    expected = torch.stack([plain_states(model, embeds, query) for query in QUERIES], 1)
    torch.testing.assert_close(found.states, expected, rtol=1e-4, atol=1e-4)
    assert found.scores.shape == (len(QUERIES), len(labels))


def test_query_of_more_tokens_than_a_pass_is_read_piece_by_piece_to_the_same(model: Any) -> None:
    prefix = PrefixKV.compute(model, word_embeddings(model, CONTEXT))
    tries = [LabelTrie.build(LABELS)] * len(QUERIES)
    hidden = [torch.arange(len(CONTEXT)) % 3 == number for number in range(len(QUERIES))]
    whole = read(model, prefix, tries, QUERIES, hidden=hidden)
    turn = Watched(last=100)
    pieces = read(model, prefix, tries, QUERIES, hidden=hidden, sizes=replace(ON_CPU, pass_tokens=2), turn=turn)
    torch.testing.assert_close(pieces.scores, whole.scores, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(pieces.states, whole.states, rtol=1e-4, atol=1e-4)
    assert len(turn.offers) == 1 + 2 + 3, "the short query, and each piece of the others"


def test_queries_of_a_pass_may_have_labels_of_their_own(llama: Any) -> None:
    prefix = PrefixKV.compute(llama, word_embeddings(llama, CONTEXT))
    everything = score(llama, prefix, LABELS, QUERIES)
    wanted = [[0, 4], [2, 3], [1, 0]]
    tries = [LabelTrie.build([LABELS[label] for label in some]) for some in wanted]
    found = read(llama, prefix, tries, QUERIES, views=()).scores
    torch.testing.assert_close(found, everything.gather(1, torch.tensor(wanted)), rtol=1e-5, atol=1e-5)


def test_normalised_scores_are_means_over_label_tokens(llama: Any) -> None:
    prefix = PrefixKV.compute(llama, word_embeddings(llama, CONTEXT))
    means = score(llama, prefix, LABELS, QUERIES, normalise=True)
    counts = torch.tensor([len(label) for label in LABELS])
    torch.testing.assert_close(means * counts, score(llama, prefix, LABELS, QUERIES))


def test_shared_beginnings_are_one_node_and_last_tokens_none() -> None:
    trie = LabelTrie.build(LABELS)
    assert trie.tokens == (61, 63, 66)
    assert trie.parents == (0, 1, 0)
    assert trie.depths == (1, 2, 1)
    assert trie.paths[2] == ((0, 61), (1, 63), (2, 64))
    assert trie.tree[1].tolist() == [[True, False, False], [True, True, False], [False, False, True]]


def test_label_that_begins_another_is_told_apart(smollm2: Any, tokenizer: Any) -> None:
    template = Template()
    examples = [("lost my card", "card"), ("when will my card come", "card arrival"), ("rate?", "exchange rate")]
    context = Context.build(tokenizer, template, examples)
    embeds = word_embeddings(smollm2, context.tokens.ids)
    labels = encode_labels(tokenizer, template, ["card", "card arrival", "exchange rate"])
    queries = [encode_query(tokenizer, template, text) for text in ("I lost my card", "when does my new card arrive?")]
    ours = score(smollm2, PrefixKV.compute(smollm2, embeds), labels, queries)
    torch.testing.assert_close(ours, plain_scores(smollm2, embeds, queries, labels), rtol=1e-5, atol=1e-4)
    assert float(ours.exp().sum(1).max()) <= 1, "labels that exclude each other have probabilities that add up to 1"


@pytest.mark.parametrize(("labels", "queries"), [([], [[5]]), ([[]], [[5]]), ([[5]], [[]])])
def test_empty_labels_and_queries_are_refused(llama: Any, labels: list[list[int]], queries: list[list[int]]) -> None:
    prefix = PrefixKV.compute(llama, word_embeddings(llama, CONTEXT))
    with pytest.raises(ValueError, match="must have tokens"):
        score(llama, prefix, labels, queries)


def test_offer_of_the_turn_before_a_pass_can_end_the_work(llama: Any) -> None:
    prefix = PrefixKV.compute(llama, word_embeddings(llama, CONTEXT))
    turn = Watched(last=3)
    with pytest.raises(TurnEnded):
        score(llama, prefix, LABELS, QUERIES, sizes=replace(ON_CPU, pass_tokens=1), turn=turn)
    assert len(turn.offers) == 3


def test_no_queries_have_no_scores(llama: Any) -> None:
    prefix = PrefixKV.compute(llama, word_embeddings(llama, CONTEXT))
    assert score(llama, prefix, LABELS, []).shape == (0, len(LABELS))
