"""Folds: which examples are held out together."""

from collections import defaultdict
from collections.abc import Sequence

import torch

#: Fewer examples than this are not split: there is too little to learn from what is left.
FEWEST = 4


def stratified_folds(numbers: Sequence[int], labels: Sequence[int], count: int, seed: int) -> list[list[int]]:
    """So many folds of `numbers`, each label dealt evenly; `labels` are those of all examples.

    A function of its arguments alone.
    """
    folds: list[list[int]] = [[] for _ in range(count)]
    order = torch.randperm(len(numbers), generator=torch.Generator().manual_seed(seed % 2**63)).tolist()
    for place, number in enumerate(sorted((numbers[place] for place in order), key=lambda number: labels[number])):
        folds[place % count].append(number)
    return [sorted(fold) for fold in folds]


def by_turns(numbers: Sequence[int], labels: Sequence[int]) -> list[int]:
    """The same numbers, one of each label after the other, as long as there are any: each beginning is balanced."""
    of_label: dict[int, list[int]] = defaultdict(list)
    for number in numbers:
        of_label[labels[number]].append(number)
    turns = [(turn, label, number) for label, some in of_label.items() for turn, number in enumerate(some)]
    return [number for _, _, number in sorted(turns)]
