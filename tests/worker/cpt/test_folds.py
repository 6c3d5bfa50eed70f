from collections import Counter

import pytest

from worker.cpt.folds import stratified_folds


@pytest.mark.parametrize("labels", [[0, 1] * 4, [0] * 4 + [1] * 4 + [2] * 4, [0, 1, 2, 3] * 2, [0] * 9 + [1] * 3])
def test_each_example_is_held_out_once_and_each_label_evenly(labels: list[int]) -> None:
    folds = stratified_folds(labels, seed=0)
    assert sorted(place for fold in folds for place in fold) == list(range(len(labels)))
    for label in set(labels):
        counts = [Counter(labels[place] for place in fold)[label] for fold in folds]
        assert max(counts) - min(counts) <= 1
    sizes = [len(fold) for fold in folds]
    assert max(sizes) - min(sizes) <= 1


def test_two_examples_a_label_make_two_folds_and_more_make_three() -> None:
    assert len(stratified_folds([0, 1, 0, 1], 0)) == 2
    assert len(stratified_folds([0, 1] * 3, 0)) == 3


def test_too_few_examples_are_not_split() -> None:
    assert stratified_folds([0, 1, 0], 0) == []


def test_folds_are_a_function_of_the_seed() -> None:
    labels = [0, 1] * 8
    assert stratified_folds(labels, 5) == stratified_folds(labels, 5)
    assert stratified_folds(labels, 5) != stratified_folds(labels, 6)
