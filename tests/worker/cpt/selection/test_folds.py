from collections import Counter

import pytest

from worker.cpt.selection.folds import balanced_folds, by_turns, in_proportion, stratified_folds


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("labels", [[0, 1] * 4, [0] * 4 + [1] * 4 + [2] * 4, [0, 1, 2, 3] * 2, [0] * 9 + [1] * 3])
def test_each_example_is_held_out_once_and_each_label_evenly(labels: list[int], count: int) -> None:
    folds = stratified_folds(range(len(labels)), labels, count, 0)
    assert sorted(number for fold in folds for number in fold) == list(range(len(labels)))
    for label in set(labels):
        counts = [Counter(labels[number] for number in fold)[label] for fold in folds]
        assert max(counts) - min(counts) <= 1
    sizes = [len(fold) for fold in folds]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("of_each", "count"), [(2, 2), (4, 4), (64, 5), (682, 5), (683, 2)])
def test_folds_of_few_examples_hold_each_label_once(of_each: int, count: int) -> None:
    labels = [0, 1, 2] * of_each
    folds = balanced_folds(range(len(labels)), labels, 0)
    assert len(folds) == count
    if of_each == count:
        assert all(Counter(labels[number] for number in fold) == {0: 1, 1: 1, 2: 1} for fold in folds)


def test_folds_are_a_function_of_the_seed() -> None:
    labels = [0, 1] * 8
    assert stratified_folds(range(16), labels, 2, 5) == stratified_folds(range(16), labels, 2, 5)
    assert stratified_folds(range(16), labels, 2, 5) != stratified_folds(range(16), labels, 2, 6)


def test_by_turns_labels_come_in_the_order_that_is_given() -> None:
    labels = [0, 0, 1, 1, 2, 2]
    assert by_turns(range(6), labels) == [0, 2, 4, 1, 3, 5]
    assert by_turns(range(6), labels, [1, 2, 0]) == [4, 0, 2, 5, 1, 3]


def test_by_turns_every_beginning_is_balanced() -> None:
    labels = [0] * 10 + [1] * 3 + [2] * 5
    order = by_turns(range(18), labels)
    assert sorted(order) == list(range(18))
    assert Counter(labels[number] for number in order[:9]) == {0: 3, 1: 3, 2: 3}
    assert [labels[number] for number in order[13:]] == [0] * 5


def test_in_proportion_no_label_is_left_out_and_a_longer_beginning_is_made_up_as_the_whole_is() -> None:
    labels = [0] * 180 + [1] * 20
    order = in_proportion(range(200), labels)
    assert sorted(order) == list(range(200))
    assert Counter(labels[number] for number in order[:4]) == {0: 2, 1: 2}
    assert Counter(labels[number] for number in order[:40]) == {0: 36, 1: 4}


def test_in_proportion_is_by_turns_where_all_labels_have_as_many() -> None:
    labels = [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert in_proportion(range(9), labels, [1, 2, 0]) == by_turns(range(9), labels, [1, 2, 0])
