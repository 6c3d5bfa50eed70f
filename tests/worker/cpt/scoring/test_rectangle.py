"""Passes padded to one shape, on the CPU, where a recording does its work anew at the same places."""

from typing import Any

import pytest
import torch

from worker.cpt.kernels.recording import Recording
from worker.cpt.model.base_model import word_embeddings
from worker.cpt.scoring.prefix import PrefixKV
from worker.cpt.scoring.rectangle import RECORDINGS, Shape, read_rectangle
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


def test_second_pass_of_a_shape_is_recorded_and_the_least_recently_used_is_forgotten(llama: Any) -> None:
    prefix, trie = PrefixKV.compute(llama, word_embeddings(llama, CONTEXT)), LabelTrie.empty()

    def is_recorded(tokens: int) -> bool:
        read_rectangle(llama, prefix, trie, [[9] * tokens], ())
        return list(prefix.recordings.values())[-1] is not None

    assert [is_recorded(5) for _ in range(3)] == [False, True, True]
    for number in range(1, RECORDINGS):
        assert not is_recorded(5 + 16 * number)
    assert is_recorded(5)
    assert not is_recorded(5 + 16 * RECORDINGS)
    assert is_recorded(5)
    assert len(prefix.recordings) == RECORDINGS
    assert not is_recorded(5 + 16)


def test_shapes_are_rounded_up_unless_a_pass_is_large() -> None:
    assert Shape.around([3, 17, 5]) == Shape(4, 32)
    assert Shape.around([16]) == Shape(1, 16)
    assert Shape.around([30] * 129) == Shape(129, 32)


def test_recording_takes_no_other_shapes() -> None:
    recording = Recording(lambda tensor: (tensor + 1,), [torch.zeros(2)])
    assert recording(torch.ones(2))[0].tolist() == [2, 2]
    with pytest.raises(ValueError, match="shapes"):
        recording(torch.ones(1))
