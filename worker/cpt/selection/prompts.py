"""Which examples stand in each prompt, which it is tuned on, and which it does not see.

Prompts are cross-fitted: the examples are dealt into as many folds as there are prompts, and each prompt is tuned on
all folds but its own. Where these are too few for its context, examples of its own fold fill it up, for the others to
read: their labels are in no loss, and an example's own copy is hidden when it is predicted. So every example is
predicted by a prompt that has not learned it, no context is smaller than it need be, and all prompts serve, averaged. A
lone prompt that is not tuned learns nothing, and predicts all examples outside it, and those of labels that have none
outside it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from worker.cpt.encoding.shots import Shots
from worker.cpt.selection.folds import FEWEST, by_turns, stratified_folds

#: Examples of a label among which a context chooses, at most.
_CANDIDATES: Final = 64
#: Of the shortest texts so many are counted in tokens.
_COUNTED: Final = 32
#: Tokens of a prompt, at most: each token of a query sees all of them.
_PROMPT_TOKENS: Final = 1024


@dataclass(frozen=True)
class PromptPlan:
    """Numbers of the examples in a prompt, in their order, of those it is tuned on, and of those it does not see.

    alone: whether it serves alone and is not tuned: then it has learned no example but by reading those in it. inside:
    examples of labels that have none outside the context.
    """

    context: tuple[int, ...]
    training: tuple[int, ...]
    unseen: tuple[int, ...]
    served: bool = True
    alone: bool = False
    inside: tuple[int, ...] = ()

    def held_out(self, numbers: Sequence[int]) -> list[int]:
        """The places of those of the numbers that are held out from the prompt; an own copy in it is always hidden.

        Under one that serves alone they are those outside it, with all of labels that have none there, or all examples
        where those outside are fewer than those inside.
        """
        out = set(self.unseen)
        if self.alone and out:
            outside = set(numbers) - set(self.context)
            out = outside | set(self.inside) if len(outside) >= len(self.context) else set(numbers)
        return [place for place, number in enumerate(numbers) if number in out]

    @property
    def unlearned_places(self) -> list[int]:
        """Places in the context of examples that the prompt does not learn."""
        return self.held_out(self.context)


def prompt_tokens(shots: Shots, context_length: int) -> int:
    """Tokens of a cross-fitted prompt, at most: the longest example must find room after it."""
    room = context_length - shots.longest_example(context_length) - 1  # the first token of a text may stand before it
    return max(1, min(_PROMPT_TOKENS, room, context_length // 2))


def whole_prompts(shots: Shots, folds: int, seed: int) -> list[PromptPlan]:
    """The reference's prompt: all examples that may stand in it, tuned on all.

    Before it come, where something is to be held out, those of the folds, which are measured and do not serve.
    """
    everything = range(len(shots))
    held_out = _folds(shots, folds, seed)
    plans = []
    for fold in [*held_out, []]:
        kept = tuple(number for number in everything if number not in set(fold))
        inside = tuple(number for number in kept if number < shots.context)
        plans.append(PromptPlan(inside, kept, tuple(fold), served=not fold))
    return plans


def cross_fitted_prompts(
    shots: Shots, prompts: int, size: int, most_tokens: int, vectors: Tensor | None, seed: int
) -> list[PromptPlan]:
    """So many prompts of about `size` examples and at most `most_tokens` tokens.

    Where no example is so short, the shortest stands alone. One prompt where the examples are too few for folds.

    vectors: [N, E] sentence vectors of length 1 of all examples; those with zeros are not chosen. A prompt is tuned on
    the examples outside it that it may learn, and on those inside as well where those outside are fewer.
    """
    everything, plans, before = range(len(shots)), [], 0
    for turn, fold in enumerate(_folds(shots, prompts, seed) or [[]]):
        out = set(fold)
        seen = [number for number in everything if number not in out]
        able = [number for number in everything if number < shots.context]
        candidates = [number for number in able if vectors is None or vectors[number].any()] or able
        order = _by_merit(shots, candidates, out, vectors, seed + turn, before)
        chosen = _fitting(shots, order, size, most_tokens) or [_shortest(shots, able)]
        if len({shots.truth[number] for number in chosen}) < len(shots.labels):
            before += len(chosen)
        context = _shuffled(chosen, seed + turn)
        stands = set(context)
        outside = [number for number in seen if number not in stands]
        training = outside if len(outside) >= max(len(context), FEWEST) else seen
        known = {shots.truth[number] for number in everything if number not in stands}
        inside = tuple(number for number in context if shots.truth[number] not in known)
        plans.append(PromptPlan(tuple(context), tuple(training), tuple(fold), inside=inside))
    return plans


def foldable(shots: Shots) -> bool:
    """Whether some of the examples can be held out in turn."""
    return len(_held_out_in_turn(shots)) >= FEWEST


def _held_out_in_turn(shots: Shots) -> range:
    """A small context is kept whole: its examples are in no fold."""
    return range(0 if shots.context >= FEWEST else shots.context, len(shots))


def _folds(shots: Shots, count: int, seed: int) -> list[list[int]]:
    if count < 2 or not foldable(shots):
        return []
    able = _held_out_in_turn(shots)
    inside = [number for number in able if number < shots.context]
    dealt = [
        stratified_folds(some, shots.truth, count, seed)
        for some in (inside, [number for number in able if number >= shots.context])
    ]
    return [sorted([*one, *other]) for one, other in zip(*dealt, strict=True)]


def _by_merit(
    shots: Shots, candidates: Sequence[int], last: Collection[int], vectors: Tensor | None, seed: int, before: int
) -> list[int]:
    """Candidates, one of each label after the other, those first that stand best for the others of their label.

    Of each label those in `last` come after the others. Labels that do not all find room in a prompt begin with those
    that `before` examples in the prompts before leave out.
    """
    ordered: list[int] = []
    for label in sorted({shots.truth[number] for number in candidates}):
        of_label = [number for number in candidates if shots.truth[number] == label]
        for late in (False, True):
            some = _shuffled([number for number in of_label if (number in last) == late], seed)[:_CANDIDATES]
            ordered += some if vectors is None or not some else _representative(some, vectors)
    labels = len(shots.labels)
    return by_turns(ordered, shots.truth, [(label - before) % labels for label in range(labels)])


def _representative(numbers: Sequence[int], vectors: Tensor) -> list[int]:
    """The numbers in the order in which they make each next selection most like all (greedy facility location)."""
    some = vectors[list(numbers)].double()
    likeness = some @ some.T
    covered, left, order = torch.full((len(numbers),), -1.0, dtype=torch.float64), list(range(len(numbers))), []
    while left:
        gains = torch.maximum(likeness[left], covered).sum(1)
        best = left.pop(int(gains.argmax()))
        covered = torch.maximum(covered, likeness[best])
        order.append(numbers[best])
    return order


def _fitting(shots: Shots, order: Sequence[int], size: int, most_tokens: int) -> list[int]:
    """The first of them that fit together, `size` at most."""
    chosen: list[int] = []
    tokens = 0
    for number in order:
        if len(chosen) == size:
            break
        length = len(shots.example(number))
        if tokens + length <= most_tokens:
            chosen.append(number)
            tokens += length
    return chosen


def _shortest(shots: Shots, numbers: Sequence[int]) -> int:
    """The one of the fewest tokens, of those with the fewest bytes."""
    small = sorted(numbers, key=lambda number: len(shots.texts[number].encode()))[:_COUNTED]
    return min(small, key=lambda number: len(shots.example(number)))


def _shuffled(numbers: Sequence[int], seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed % 2**63)
    return [numbers[place] for place in torch.randperm(len(numbers), generator=generator).tolist()]
