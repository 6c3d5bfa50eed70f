"""Folds: which examples are held out together."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import torch

#: Fewer examples than this are not split: there is too little to learn from what is left.
FEWEST: Final = 4
_FOLDS: Final = 5
#: Of more examples there are two folds: half of them teach as much, and each fit to them takes seconds.
_MANY: Final = 2048
#: Of each label so many come first where not all are read: while one is held out another shows what its label means.
_FIRST_OF_EACH: Final = 2


def stratified_folds(numbers: Sequence[int], labels: Sequence[int], count: int, seed: int) -> list[list[int]]:
    """So many folds of `numbers`, each label dealt evenly; `labels` are those of all examples.

    A function of its arguments alone.
    """
    folds: list[list[int]] = [[] for _ in range(count)]
    order = torch.randperm(len(numbers), generator=torch.Generator().manual_seed(seed % 2**63)).tolist()
    for place, number in enumerate(sorted((numbers[place] for place in order), key=lambda number: labels[number])):
        folds[place % count].append(number)
    return [sorted(fold) for fold in folds]


def balanced_folds(numbers: Sequence[int], labels: Sequence[int], seed: int) -> list[list[int]]:
    """Up to five folds of `numbers`, two of more than 2,048, but no more than most labels have examples.

    A fold then holds as many of each label, and what is learned from the others leans towards none.
    """
    counts = sorted(Counter(labels[number] for number in numbers).values())
    median = counts[len(counts) // 2] if counts else 0
    return stratified_folds(numbers, labels, max(2, min(most_folds(len(numbers)), median)), seed)


def most_folds(numbers: int) -> int:
    """Folds of so many examples, at most."""
    return _FOLDS if numbers <= _MANY else 2


def by_turns(numbers: Sequence[int], labels: Sequence[int], order: Sequence[int] | None = None) -> list[int]:
    """The same numbers, one of each label after the other, as long as there are any: each beginning is balanced.

    order: the place of each label in a turn; without it labels come in their own order.
    """
    return [number for _, _, number in sorted(_turns(numbers, labels, order))]


def in_proportion(numbers: Sequence[int], labels: Sequence[int], order: Sequence[int] | None = None) -> list[int]:
    """The same numbers, two of each label first, and then as many of each label as it has of all.

    Each longer beginning is made up as the whole is, so that what is measured on it holds for the whole. Where all
    labels have as many it is the order of `by_turns`.
    """
    counts = Counter(labels[number] for number in numbers)
    turns = sorted(_turns(numbers, labels, order))
    first = [number for turn, _, number in turns if turn < _FIRST_OF_EACH]
    rest = [(turn / counts[labels[number]], place, number) for turn, place, number in turns if turn >= _FIRST_OF_EACH]
    return [*first, *(number for _, _, number in sorted(rest))]


def _turns(numbers: Sequence[int], labels: Sequence[int], order: Sequence[int] | None) -> list[tuple[int, int, int]]:
    """(turn, place of its label in a turn, number) of each."""
    met: Counter[int] = Counter()
    turns = []
    for number in numbers:
        label = labels[number]
        turns.append((met[label], order[label] if order else label, number))
        met[label] += 1
    return turns
