"""Passes padded to one shape, on the CPU, where a recording does its work anew at the same places."""

import gc
import weakref
from typing import Any

import pytest
import torch

from worker.cpt.model.base_model import word_embeddings
from worker.cpt.scoring.prefix import PrefixKV
from worker.cpt.scoring.rectangle import Shape, read_rectangle
from worker.cpt.scoring.scorer import read
from worker.cpt.scoring.trie import LabelTrie
from worker.cpt.scoring.views import VIEWS

CONTEXT = [1, 20, 21, 22, 23, 24, 25]
QUERIES = [[30, 31, 32], [40, 41, 42, 43, 44, 45], [50]]
LABELS = [[60], [61, 62], [61, 63, 64], [61, 63, 65], [66, 67]]


@pytest.mark.parametrize("labels", [LABELS, [[60], [66]], []])
def test_rectangle_reads_what_packed_rows_read_also_once_it_is_recorded(model: Any, labels: list[list[int]]) -> None:
    prefix = PrefixKV.compute(model, word_embeddings(model, CONTEXT))
    trie = LabelTrie.build(labels) if labels else LabelTrie.empty()
    for queries in (QUERIES, QUERIES[::-1], QUERIES, QUERIES[1:]):  # alone, to be recorded, played, of another shape
        scores, states = read_rectangle(model, prefix, trie, queries, VIEWS)
        expected = read(model, prefix, [trie] * len(queries), queries)
        torch.testing.assert_close(scores, expected.scores, rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(states, expected.states, rtol=1e-4, atol=1e-4)


def test_states_are_left_out_where_none_are_wanted(llama: Any) -> None:
    prefix = PrefixKV.compute(llama, word_embeddings(llama, CONTEXT))
    trie = LabelTrie.build(LABELS)
    scores, states = read_rectangle(llama, prefix, trie, QUERIES, ())
    expected = read(llama, prefix, [trie] * len(QUERIES), QUERIES, views=())
    torch.testing.assert_close(scores, expected.scores, rtol=1e-5, atol=1e-5)
    assert states.shape == expected.states.shape


def test_second_pass_of_a_shape_is_recorded(llama: Any) -> None:
    prefix, trie = PrefixKV.compute(llama, word_embeddings(llama, CONTEXT)), LabelTrie.empty()
    recorded = []
    for tokens in (5, 5, 7, 30, 30):
        read_rectangle(llama, prefix, trie, [[9] * tokens], ())
        recorded.append(len(prefix.recordings))
    assert recorded == [0, 1, 1, 1, 2]


def test_prefix_and_its_recordings_are_freed_as_soon_as_nobody_holds_them(llama: Any) -> None:
    """Not once the garbage collector looks for cycles: a GPU's memory would run out before."""
    prefix, trie = PrefixKV.compute(llama, word_embeddings(llama, CONTEXT)), LabelTrie.build(LABELS)
    before = prefix.nbytes
    for _ in range(2):
        read_rectangle(llama, prefix, trie, QUERIES, VIEWS)
    assert prefix.nbytes > before
    keys = weakref.ref(prefix.layers[0][0])
    gc.disable()
    try:
        del prefix
        assert keys() is None
    finally:
        gc.enable()


def test_shapes_are_rounded_up_unless_a_pass_is_large() -> None:
    assert Shape.around([3, 17, 5]) == Shape(4, 32)
    assert Shape.around([16]) == Shape(1, 16)
    assert Shape.around([30] * 129) == Shape(129, 32)
