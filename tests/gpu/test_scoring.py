"""Scores and states on the device: those of uncached forwards, whatever else is in the pass, recorded or not."""

from typing import Any

import pytest
import torch
from torch import Tensor

from worker.cpt.model.base_model import word_embeddings
from worker.cpt.scoring.prefix import PrefixKV
from worker.cpt.scoring.scorer import read, score
from worker.cpt.scoring.trie import LabelTrie

CONTEXT = [1, 20, 21, 22, 23, 24, 25]
QUERIES = [[30, 31, 32], [40, 41, 42, 43, 44, 45], [50], [7, 8], [9, 10, 11, 12], [13], [14, 15], [16, 17, 18, 19]]
LABELS = [[60], [61, 62], [61, 63, 64], [61, 63, 65], [66, 67]]
#: Largest difference of a log-probability between a query alone and in company: sums in another order.
ALONE_TOLERANCE = 1e-4


@torch.no_grad()
def plain_scores(model: Any) -> Tensor:
    """One uncached forward of the model as transformers made it, for each query and label."""
    context, scores = word_embeddings(model, CONTEXT), torch.zeros(len(QUERIES), len(LABELS))
    for i, query in enumerate(QUERIES):
        for j, label in enumerate(LABELS):
            row = torch.cat([context, word_embeddings(model, query + label)])[None]
            log_p = model(inputs_embeds=row).logits[0, -len(label) - 1 : -1].float().log_softmax(-1)
            scores[i, j] = log_p[range(len(label)), label].sum()
    return scores


def test_scores_are_those_of_uncached_forwards(model: Any) -> None:
    expected = plain_scores(model)
    prefix = PrefixKV.compute(model, word_embeddings(model, CONTEXT))
    trie = LabelTrie.build(LABELS)
    for _ in range(3):  # as it comes, recorded, played
        found = read(model, prefix, [trie] * len(QUERIES), QUERIES, views=()).scores
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_query_alone_is_the_query_in_company(model: Any) -> None:
    prefix = PrefixKV.compute(model, word_embeddings(model, CONTEXT))
    trie = LabelTrie.build(LABELS)
    for _ in range(3):
        together = read(model, prefix, [trie] * len(QUERIES), QUERIES)
        alone = [read(model, prefix, [trie], [query]) for query in QUERIES]
        scores = torch.cat([one.scores for one in alone])
        torch.testing.assert_close(together.scores, scores, rtol=0, atol=ALONE_TOLERANCE)
        states = torch.cat([one.states for one in alone], 1)
        torch.testing.assert_close(together.states, states, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("marked", [[], [0, 3]])
def test_tokens_of_the_context_can_be_hidden(model: Any, marked: list[int]) -> None:
    """What is hidden from a query changes its scores, and nothing else's."""
    prefix = PrefixKV.compute(model, word_embeddings(model, CONTEXT))
    marks = torch.zeros(len(QUERIES), len(CONTEXT), dtype=torch.bool)
    marks[0, marked] = True
    whole, hidden = score(model, prefix, LABELS, QUERIES), score(model, prefix, LABELS, QUERIES, hidden=list(marks))
    torch.testing.assert_close(hidden[1:], whole[1:], rtol=1e-4, atol=1e-4)
    assert torch.allclose(hidden[0], whole[0], atol=1e-4) is (not marked)
