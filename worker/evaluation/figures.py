"""How good predictions are: accuracy, macro-F1, likelihood, calibration, Brier score, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

from app.contract.objects import Difference, LabelScore, Score
from worker.cpt.selection.student import t95
from worker.cpt.turn import ALONE, Turn
from worker.evaluation.outcomes import Outcomes

#: What a search serves errs so often, at least, of how often its held-out predictions did: it has learned more examples
#: and averages two prompts. On trec, agnews and labels of Banking77, 31 draws, it erred 0.67 times as often.
_LEAST_ERROR_OF_HELD_OUT: Final = 2 / 3
_Z95: Final = 1.959963984540054
_ECE_BINS: Final = 10
_SMALLEST: Final = 1e-12
_LARGEST_LOSS: Final = -math.log(_SMALLEST)
_RESAMPLES: Final = 1000
#: Inputs that are drawn at once, of all resamples together.
_BLOCK: Final = 2**18

_Draw = Callable[[int, torch.Generator], Tensor]


def evaluate(probabilities: Tensor, truth: Tensor, turn: Turn = ALONE) -> Score:
    """Score predictions: ``probabilities`` (N, L) rows that sum to 1, ``truth`` (N,) indices of labels, N > 0.

    The turn is offered now and then.
    """
    return score(Outcomes.of(probabilities, truth), probabilities.shape[1], turn)


def score(outcomes: Outcomes, labels: int, turn: Turn = ALONE) -> Score:
    """The same for N > 0 outcomes of so many ``labels``."""
    n, confidence, predicted, truth = len(outcomes), outcomes.confidence, outcomes.predicted, outcomes.truth
    right = outcomes.right.double()
    losses, distances = -outcomes.likelihood.clamp_min(_SMALLEST).log(), outcomes.distance
    macro_f1 = _macro_f1(truth[None], predicted[None], labels).item()
    ece = _expected_calibration_error(confidence[None], right[None]).item()
    return Score(
        accuracy=right.mean().item(),
        macro_f1=macro_f1,
        nll=losses.mean().item(),
        ece=ece,
        brier=distances.mean().item(),
        accuracy_ci95=wilson_interval(right.mean().item(), n),
        macro_f1_ci95=_macro_f1_interval(macro_f1, truth, predicted, labels, turn),
        nll_ci95=_mean_interval(losses, 0.0, _LARGEST_LOSS),
        ece_ci95=_ece_interval(ece, confidence, right, turn),
        brier_ci95=_mean_interval(distances, 0.0, 2.0),
        chance_ece=_ece_if_calibrated(confidence, turn).mean().item(),
        n=n,
    )


def chance_ece(probabilities: Tensor, turn: Turn = ALONE) -> float:
    """The ECE to expect of predictions (N, L) whose confidences mean exactly what they say: not 0, with few."""
    return _ece_if_calibrated(probabilities.double().max(1).values, turn).mean().item()


def compare(tuned: Tensor, plain: Tensor, truth: Tensor) -> Difference:
    """The paired difference of two sets of probabilities (N, L) for the same inputs, tuned minus plain."""
    right = [predictions.argmax(1) == truth for predictions in (tuned, plain)]
    gained, lost = (right[0] & ~right[1]).sum().item(), (right[1] & ~right[0]).sum().item()
    losses = _losses(tuned, truth) - _losses(plain, truth)
    return Difference(
        accuracy=(gained - lost) / len(truth),
        accuracy_ci95=paired_interval(int(gained), int(lost), len(truth)),
        nll=losses.mean().item(),
        nll_ci95=_mean_interval(losses, -_LARGEST_LOSS, _LARGEST_LOSS),
    )


def _losses(probabilities: Tensor, truth: Tensor) -> Tensor:
    """(N,) negative log-likelihoods."""
    return -probabilities.double().gather(1, truth[:, None]).clamp_min(_SMALLEST).log().flatten()


def _macro_f1_interval(figure: float, truth: Tensor, predicted: Tensor, labels: int, turn: Turn) -> tuple[float, float]:
    """95% interval of the macro-F1 ``figure``, by a bootstrap over the inputs and one more of which nothing is known.

    Without that one, all right would stay all right in every resample.
    """
    n = len(truth)

    def draw(rows: int, generator: torch.Generator) -> Tensor:
        picks = torch.randint(n + 1, (rows, n), generator=generator)
        unknown = torch.randint(labels, (2, rows, 1), generator=generator)
        drawn = [
            torch.cat([known.expand(rows, n), one], 1).gather(1, picks)
            for known, one in zip((truth, predicted), unknown, strict=True)
        ]
        return _macro_f1(drawn[0], drawn[1], labels)

    low, high = _percentiles(_resampled(draw, n, turn))
    return min(low, figure), max(high, figure)


def _ece_interval(figure: float, confidence: Tensor, right: Tensor, turn: Turn) -> tuple[float, float]:
    """95% interval of the ECE ``figure``, from a bootstrap over the inputs, whose ECEs are larger than the true one.

    It begins at 0 where perfectly calibrated predictions have such an ECE in 97.5% of cases.
    """
    n = len(right)

    def draw(rows: int, generator: torch.Generator) -> Tensor:
        picks = torch.randint(n, (rows, n), generator=generator)
        return _expected_calibration_error(confidence[picks], right[picks])

    _, most_by_chance = _percentiles(_ece_if_calibrated(confidence, turn))
    _, high = _percentiles(_resampled(draw, n, turn))
    return 0.0 if figure <= most_by_chance else max(0.0, 2 * figure - high), max(high, figure)


def _resampled(draw: _Draw, n: int, turn: Turn) -> Tensor:
    """What ``draw`` gives (B,) for as many resamples of ``n`` inputs as it is told, always the same in all."""
    generator, at_once = torch.Generator().manual_seed(0), max(1, _BLOCK // n)
    found = []
    for start in range(0, _RESAMPLES, at_once):
        turn.offer()
        found.append(draw(min(at_once, _RESAMPLES - start), generator))
    return torch.cat(found)


def _ece_if_calibrated(confidence: Tensor, turn: Turn) -> Tensor:
    """ECEs (B,) of predictions with these confidences (N,) that are right just as often as these say."""

    def draw(rows: int, generator: torch.Generator) -> Tensor:
        chances = confidence.expand(rows, -1)
        right = torch.rand(chances.shape, generator=generator, dtype=torch.float64) < chances
        return _expected_calibration_error(chances, right.double())

    return _resampled(draw, len(confidence), turn)


def _mean_interval(values: Tensor, least: float, most: float) -> tuple[float, float]:
    """95% interval of the mean of what ``values`` (N,) are drawn from (Student 1908), which lie in the given range."""
    n = len(values)
    if n == 1:
        return least, most
    half = t95(n - 1) * values.std().item() / math.sqrt(n)
    return max(least, values.mean().item() - half), min(most, values.mean().item() + half)


def _percentiles(values: Tensor) -> tuple[float, float]:
    """The middle 95% of values (B,)."""
    low, high = values.double().quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high


def wilson_interval(share: float, n: int) -> tuple[float, float]:
    """95% interval of a share observed in ``n`` trials (Wilson 1927)."""
    centre = (share + _Z95**2 / (2 * n)) / (1 + _Z95**2 / n)
    half = _Z95 / (1 + _Z95**2 / n) * math.sqrt(share * (1 - share) / n + _Z95**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def held_out_interval(share: float, n: int) -> tuple[float, float]:
    """The same of right ones among examples that were held out of a search, for what the search serves."""
    low, high = wilson_interval(share, n)
    return low, 1 - _LEAST_ERROR_OF_HELD_OUT * (1 - high)


def paired_interval(gained: int, lost: int, n: int) -> tuple[float, float]:
    """95% interval of a difference of shares among the same ``n``, some gained and some lost (Agresti and Min 2005)."""
    more = n + 2
    centre = (gained - lost) / more
    half = _Z95 * math.sqrt(gained + lost + 1 - (gained - lost) ** 2 / more) / more
    return max(-1.0, centre - half), min(1.0, centre + half)


def confusion_matrix(probabilities: Tensor, truth: Tensor) -> tuple[tuple[int, ...], ...]:
    """Counts (L, L): rows are true labels, columns predicted ones."""
    return confusions(probabilities.argmax(dim=1), truth, probabilities.shape[1])


def confusions(predicted: Tensor, truth: Tensor, labels: int) -> tuple[tuple[int, ...], ...]:
    """The same from predicted and true labels (N,)."""
    cells = truth * labels + predicted
    counts: list[list[int]] = cells.bincount(minlength=labels * labels).view(labels, labels).tolist()
    return tuple(tuple(row) for row in counts)


def per_label(matrix: Sequence[Sequence[int]]) -> list[LabelScore]:
    """Precision, recall and F1 of each label from a confusion matrix; None for a share of nothing."""
    scores = []
    for label, row in enumerate(matrix):
        hits, true, predicted = row[label], sum(row), sum(other[label] for other in matrix)
        scores.append(
            LabelScore(
                precision=hits / predicted if predicted else None,
                recall=hits / true if true else None,
                f1=2 * hits / (true + predicted) if true + predicted else None,
                n=true,
            )
        )
    return scores


def _macro_f1(truth: Tensor, predicted: Tensor, labels: int) -> Tensor:
    """Mean F1 (B,) over the labels that are true or predicted somewhere in a row of (B, N)."""
    ones = torch.ones(truth.shape, dtype=torch.float64)
    zeros = torch.zeros(len(truth), labels, dtype=torch.float64)
    true, found = zeros.scatter_add(1, truth, ones), zeros.scatter_add(1, predicted, ones)
    hits = zeros.scatter_add(1, truth, (truth == predicted).double())
    occurring = (true + found) > 0
    return (2 * hits / (true + found).clamp_min(1)).sum(1) / occurring.sum(1)


def _expected_calibration_error(confidence: Tensor, right: Tensor) -> Tensor:
    """ECE (B,) (Guo et al. 2017) over ten equal bins of confidence, of rows of (B, N)."""
    bins = (confidence * _ECE_BINS).long().clamp_max(_ECE_BINS - 1)
    gaps = torch.zeros(len(bins), _ECE_BINS, dtype=torch.float64).scatter_add(1, bins, confidence - right)
    return gaps.abs().sum(1) / confidence.shape[1]
