"""Folds: which examples are held out together."""

from collections import Counter
from collections.abc import Sequence

import torch

#: Fewer examples than this are not split: there is too little to learn from what is left.
FEWEST = 4
_MOST_FOLDS = 3


def stratified_folds(labels: Sequence[int], in_context: Sequence[bool], seed: int) -> list[list[int]]:
    """Two or three folds of places in `labels`, each label dealt evenly; none for too few examples.

    Those in the context are dealt first, so that no fold holds all of them as long as there are `FEWEST`. A function of
    its arguments alone.
    """
    if len(labels) < FEWEST:
        return []
    counts = sorted(Counter(labels).values())
    folds: list[list[int]] = [[] for _ in range(min(_MOST_FOLDS, max(2, counts[len(counts) // 2])))]
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed % 2**63)).tolist()
    for place in sorted(order, key=lambda place: (not in_context[place], labels[place])):
        same_label = [sum(labels[other] == labels[place] for other in fold) for fold in folds]
        turn = min(range(len(folds)), key=lambda number: (same_label[number], len(folds[number])))
        folds[turn].append(place)
    return [sorted(fold) for fold in folds]


def spread(numbers: Sequence[int], labels: Sequence[int], most: int) -> list[int]:
    """At most so many of the numbers of examples, in their order, evenly from those of each label.

    `labels` are those of all examples.
    """
    count, by_label = min(most, len(numbers)), sorted(numbers, key=lambda number: labels[number])
    return sorted(by_label[place * len(numbers) // count] for place in range(count)) if count else []
