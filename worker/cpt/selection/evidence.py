"""What the readings of a trial tell: held-out predictions of each part, and the heads that are fitted for good."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from worker.cpt.encoding.shots import Shots
from worker.cpt.scoring.classifier import label_part
from worker.cpt.scoring.head import CrossFit, Head, LabelledFeatures
from worker.cpt.selection.folds import balanced_folds
from worker.cpt.selection.prompts import PromptPlan
from worker.cpt.selection.trials import PromptRecord
from worker.cpt.turn import ALONE, Turn

#: Texts without a label weigh at most as much as the examples in the bias; so many of them weigh a quarter of it.
_QUARTER_WEIGHT_TEXTS: Final = 32


@dataclass(frozen=True)
class Evidence:
    """Log-probabilities [N, L] float64 for held-out examples `numbers`, by prompts and heads that have not seen them.

    They are those whose labels were scored; heads have learned from the states of all others too. Where none were, they
    are all that were read, and the label scores are even.
    icl: the plain label scores, None where there are none. labels: the same less their bias. states: the heads on
    states, None without.
    """

    numbers: tuple[int, ...]
    truth: Tensor
    icl: Tensor | None
    labels: Tensor
    states: Tensor | None


@dataclass(frozen=True)
class Parts:
    """What serves of a trial: the label scores' bias [P, L] under each prompt, and heads on the states, if any."""

    score_bias: Tensor
    state_penalties: tuple[float, ...]


def gather(
    shots: Shots,
    plans: Sequence[PromptPlan],
    records: Sequence[PromptRecord],
    *,
    calibrated: bool,
    heads: bool,
    seed: int,
    turn: Turn = ALONE,
) -> tuple[Evidence, Parts]:
    """The evidence that a trial's records hold, and what serving needs to know of it."""
    numbers: list[int] = []
    icl, labels, states, biases, penalties = [], [], [], [], []
    scored = not heads or any(record.scores or not record.numbers for record in records)
    for plan, record in zip(plans, records, strict=True):
        even = torch.zeros(0 if scored else len(record.numbers), len(shots.labels))
        scores = torch.cat(record.scores) if record.scores else even
        every = plan.held_out(record.numbers)
        held_out = [place for place in every if place < len(scores)]
        bias = _bias(shots, record, scores) if calibrated else torch.zeros(len(shots.labels))
        if plan.served:
            biases.append(bias)
        numbers += [record.numbers[place] for place in held_out]
        icl.append(scores[held_out].double().log_softmax(1))
        labels.append(label_part([scores[held_out]], bias[None]))
        if heads:
            fitted = _cross_fit(shots, record, every, seed, turn)
            penalties.append(fitted.penalty)
            states.append(fitted.predicted[held_out])
    evidence = Evidence(
        numbers=tuple(numbers),
        truth=torch.tensor([shots.truth[number] for number in numbers], dtype=torch.int64),
        icl=torch.cat(icl) if scored else None,
        labels=torch.cat(labels),
        states=torch.cat(states) if heads else None,
    )
    return evidence, Parts(torch.stack(biases), tuple(penalties))


def state_heads(
    shots: Shots, records: Sequence[PromptRecord], penalties: Sequence[float], turn: Turn = ALONE
) -> tuple[Head, ...]:
    """The heads for all examples that were read under each prompt."""
    pairs = zip(records, penalties, strict=True)
    return tuple(_labelled(shots, record).fit(penalty, turn) for record, penalty in pairs)


def _labelled(shots: Shots, record: PromptRecord) -> LabelledFeatures:
    truth = torch.tensor([shots.truth[number] for number in record.numbers])
    names = torch.cat(record.names, 1) if record.names else None
    return LabelledFeatures(torch.cat(record.states, 1), truth, len(shots.labels), names)


def _cross_fit(shots: Shots, record: PromptRecord, held_out: Sequence[int], seed: int, turn: Turn) -> CrossFit:
    """Only the held-out places need predictions; the folds within are of those alone."""
    given = _labelled(shots, record)
    folds = balanced_folds(held_out, given.truth.tolist(), seed)
    return given.cross_fit(folds, held_out, turn)


def _bias(shots: Shots, record: PromptRecord, scores: Tensor) -> Tensor:
    """[L] what a prompt says of any text: the mean over the examples that were read, of all labels alike.

    Batch calibration (arXiv 2309.17249) with the examples as the batch, so that answers depend on nothing else; own
    copies are hidden. All examples gave 2.3 points more, on the mean of seven draws, than those that the prompt has not
    learned. Texts without a label take part, shrunk towards the examples: theirs may be uneven.
    """
    if not record.numbers:
        return torch.zeros(len(shots.labels))
    truth = torch.tensor([shots.truth[number] for number in record.numbers[: len(scores)]])
    predicted = scores.double().log_softmax(1)
    weights = 1 / truth.bincount(minlength=len(shots.labels))[truth].double()
    bias = (weights[:, None] * predicted).sum(0) / weights.sum()
    if record.calibration:
        texts = torch.cat(record.calibration).double().log_softmax(1)
        share = 0.5 * len(texts) / (len(texts) + _QUARTER_WEIGHT_TEXTS)
        bias = (1 - share) * bias + share * texts.mean(0)
    return bias.float()
