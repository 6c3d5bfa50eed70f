"""Examples to look at again: those whose label is likely wrong, and those without which others are predicted better.

Both lists control their false discovery rate.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from worker.cpt.scoring.head import Head, LabelledFeatures, Regression
from worker.cpt.selection.student import upper_tail
from worker.cpt.turn import ALONE, Turn

#: More examples than this are not tried one by one: it would take long, and one matters little among many.
MOST_TRIED: Final = 64
#: Share of the harmful examples, and of the suspect ones, that may be named by mistake. Of the suspect ones 24% were,
#: of 62, where 5% of the labels of eight draws of trec, agnews and Banking77 were made wrong, of which 47 of 56 were
#: found; and 13 of 101, where 20% of three draws were, of which 88 of 96.
HARMFUL_FALSE_SHARE: Final = 0.1
SUSPECT_FALSE_SHARE: Final = 0.3
#: Least gain (nats per example).
_LEAST_GAIN: Final = 0.02
_FEWEST_JUDGED: Final = 2
#: Wrong labels that are expected at least and at most, as shares, and the rounds of the estimation.
_USUAL_WRONG: Final = 0.05
_MOST_WRONG: Final = 0.4
_ROUNDS: Final = 50
#: No label is wrong for certain.
_MOST_SURE: Final = 0.99


@dataclass(frozen=True)
class Suspect:
    """An example by its number, the probability that its label is wrong, and what was predicted of it [L]."""

    number: int
    wrong: float
    predicted: Tensor


def suspects_among(numbers: Sequence[int], probabilities: Tensor, labels: Sequence[int]) -> tuple[Suspect, ...]:
    """The suspect ones of the examples `numbers`, of which held-out probabilities [N, L] are known.

    labels: those of all examples. None is the only example of a label, nor an example of a label that no example was
    recognised as: what predicts them knows nothing of their label.
    """
    counts, predicted = Counter(labels), probabilities.argmax(1).tolist()
    known = {label for label, number in zip(predicted, numbers, strict=True) if label == labels[number]}
    rows = [row for row, number in enumerate(numbers) if counts[labels[number]] > 1 and labels[number] in known]
    found = suspect_examples(probabilities[rows], torch.tensor([labels[numbers[row]] for row in rows]))
    return tuple(Suspect(numbers[rows[place]], wrong, probabilities[rows[place]]) for place, wrong in found)


def suspect_examples(probabilities: Tensor, truth: Tensor) -> tuple[tuple[int, float], ...]:
    """(row, probability that its label is wrong), the likeliest first, of held-out probabilities [N, L].

    Where a share e of the labels is drawn from those that are not right, a label is given with the probability
    p = (1 - e) q + e (1 - q) / (L - 1), q being that it is right, and is wrong with e (1 - q) / (L - 1) / p.
    Predictions are of p: they are fitted to the labels as they are given. As many rows are named as keep the expected
    share of mistakes below `SUSPECT_FALSE_SHARE`, and only those that another label is predicted of.
    """
    if not len(truth):
        return ()
    given, others = probabilities.gather(1, truth[:, None]).flatten().double(), probabilities.shape[1] - 1
    wrong = _share_of_wrong(given, others)
    each = wrong / others
    right = ((given - each) / (1 - wrong - each)).clamp(0, 1)
    chance = (each * (1 - right) / given.clamp_min(1e-12)).clamp_max(_MOST_SURE)
    ranked = chance.argsort(descending=True, stable=True).tolist()
    doubted = [row for row in ranked if int(probabilities[row].argmax()) != int(truth[row])]
    named: list[tuple[int, float]] = []
    mistakes = 0.0
    for row in doubted:
        mistakes += 1 - chance[row].item()
        if mistakes > SUSPECT_FALSE_SHARE * (len(named) + 1):
            break
        named.append((row, chance[row].item()))
    return tuple(named)


def _share_of_wrong(given: Tensor, others: int) -> float:
    """The share of wrong labels, by the probabilities [N] of the given ones, where `others` could stand instead.

    Expectation-maximisation takes predictions for those of the right labels. They expect wrong ones already, so that of
    a label that only those explain it counts half.
    """
    wrong = _USUAL_WRONG
    for _ in range(_ROUNDS):
        other = wrong * (1 - given) / others
        chance = other / ((1 - wrong) * given + other).clamp_min(1e-300)
        wrong = min(max((chance.sum().item() + _USUAL_WRONG) / (len(given) + 1), 1e-4), 0.5)
    return min(max(2 * wrong, _USUAL_WRONG), _MOST_WRONG)


def harmful_examples(
    given: LabelledFeatures, penalty: float, folds: Sequence[Sequence[int]], turn: Turn = ALONE
) -> tuple[tuple[int, float], ...]:
    """(number, gain) of examples, the worst first, for heads of this penalty.

    Judged on the folds, numbers of examples, that an example is not in, by Student's test; Benjamini and Hochberg's
    procedure keeps the share of harmless ones among those named below `HARMFUL_FALSE_SHARE`. The only example of a
    label is never named: without it nothing would show what the label means.
    """
    count, of_label = len(given.truth), given.truth.bincount()
    if count > MOST_TRIED or not folds:
        return ()

    gains: list[list[Tensor]] = [[] for _ in range(count)]
    for fold in folds:
        judged = list(fold)
        kept = [number for number in range(count) if number not in set(fold)]
        regression = Regression(given, kept)
        with_all = _losses(given, regression.solve(penalty, turn), judged)
        for place, number in enumerate(kept):
            without = regression.solve(penalty, turn, left_out=place)
            gains[number].append(with_all - _losses(given, without, judged))
    tried = []
    for number, parts in enumerate(gains):
        gain = torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)
        if len(gain) >= _FEWEST_JUDGED and of_label[given.truth[number]] > 1:
            mean, error = gain.mean().item(), (gain.std() / len(gain) ** 0.5).item()
            chance = upper_tail(mean / error, len(gain) - 1) if error > 0 else float(mean <= 0)
            tried.append((number, mean, chance))
    return _discoveries(tried)


def _losses(given: LabelledFeatures, head: Head, numbers: Sequence[int]) -> Tensor:
    """[n] negative log-likelihoods of examples."""
    predicted = head.log_probabilities(given.features[:, list(numbers)])
    return -predicted.gather(1, given.truth[list(numbers), None]).flatten()


def _discoveries(tried: Sequence[tuple[int, float, float]]) -> tuple[tuple[int, float], ...]:
    """(number, gain) of those that Benjamini and Hochberg's procedure (1995) finds, the largest gain first."""
    by_chance = sorted(tried, key=lambda one: one[2])
    count = 0
    for rank, (_, _, chance) in enumerate(by_chance, start=1):
        if chance <= HARMFUL_FALSE_SHARE * rank / len(tried):
            count = rank
    named = [(number, gain) for number, gain, _ in by_chance[:count] if gain > _LEAST_GAIN and math.isfinite(gain)]
    return tuple(sorted(named, key=lambda one: -one[1]))
