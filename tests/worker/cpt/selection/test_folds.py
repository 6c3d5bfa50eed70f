from collections import Counter

import pytest

from worker.cpt.selection.folds import FEWEST, spread, stratified_folds


def folds_of(labels: list[int], seed: int) -> list[list[int]]:
    return stratified_folds(labels, [True] * len(labels), seed)


@pytest.mark.parametrize("inside", [4, 6, 8])
@pytest.mark.parametrize("labels", [[0, 1] * 4, [0] * 4 + [1] * 4 + [2] * 4, [0, 1, 2, 3] * 2, [0] * 9 + [1] * 3])
def test_each_example_is_held_out_once_and_each_label_evenly(labels: list[int], inside: int) -> None:
    folds = stratified_folds(labels, [place < inside for place in range(len(labels))], 0)
    assert sorted(place for fold in folds for place in fold) == list(range(len(labels)))
    for label in set(labels):
        counts = [Counter(labels[place] for place in fold)[label] for fold in folds]
        assert max(counts) - min(counts) <= 1
    sizes = [len(fold) for fold in folds]
    assert max(sizes) - min(sizes) <= 1


def test_two_examples_a_label_make_two_folds_and_more_make_three() -> None:
    assert len(folds_of([0, 1, 0, 1], 0)) == 2
    assert len(folds_of([0, 1] * 3, 0)) == 3


def test_too_few_examples_are_not_split() -> None:
    assert folds_of([0, 1, 0], 0) == []


def test_folds_are_a_function_of_the_seed() -> None:
    labels = [0, 1] * 8
    assert folds_of(labels, 5) == folds_of(labels, 5)
    assert folds_of(labels, 5) != folds_of(labels, 6)


@pytest.mark.parametrize("outside", [4, 9, 40])
def test_no_fold_holds_the_whole_context(outside: int) -> None:
    labels = [number % 4 for number in range(FEWEST + outside)]
    in_context = [number < FEWEST for number in range(len(labels))]
    for seed in range(30):
        for fold in stratified_folds(labels, in_context, seed):
            assert sum(in_context[place] for place in fold) < FEWEST


def test_some_examples_stand_for_all_labels() -> None:
    labels = [number % 4 for number in range(64)]
    some = spread(range(64), labels, 8)
    assert some == sorted(some)
    assert Counter(labels[number] for number in some) == {0: 2, 1: 2, 2: 2, 3: 2}
    assert spread([1, 2, 3], labels, 9) == [1, 2, 3]
    assert spread([], labels, 4) == []
