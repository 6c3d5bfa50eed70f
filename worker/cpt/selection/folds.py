"""Folds: which examples are held out together."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final

import torch

#: Fewer examples than this are not split: there is too little to learn from what is left.
FEWEST: Final = 4
_FOLDS: Final = 5
#: Of more examples there are two folds: half of them teach as much, and each fit to them takes seconds.
_MANY: Final = 2048


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
    most = _FOLDS if len(numbers) <= _MANY else 2
    return stratified_folds(numbers, labels, max(2, min(most, median)), seed)


def by_turns(numbers: Sequence[int], labels: Sequence[int], order: Sequence[int] | None = None) -> list[int]:
    """The same numbers, one of each label after the other, as long as there are any: each beginning is balanced.

    order: the place of each label in a turn; without it labels come in their own order.
    """
    of_label: dict[int, list[int]] = defaultdict(list)
    for number in numbers:
        of_label[labels[number]].append(number)
    turns = [
        (turn, order[label] if order else label, number)
        for label, some in of_label.items()
        for turn, number in enumerate(some)
    ]
    return [number for _, _, number in sorted(turns)]
