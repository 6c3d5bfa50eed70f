"""Which examples harm: without them a head predicts the others better."""

from collections.abc import Sequence
from typing import Final

from torch import Tensor

from worker.cpt.scoring.head import predict_held_out
from worker.cpt.selection.student import t95
from worker.cpt.turn import Turn

#: More examples than this are not tried one by one: it would take long, and one matters little among many.
MOST_TRIED: Final = 64
#: Least gain (nats per example).
_LEAST_GAIN: Final = 0.02
_FEWEST_JUDGED: Final = 2


def harmful_examples(
    features: Tensor,
    truth: Tensor,
    names: Tensor,
    folds: Sequence[Sequence[int]],
    turn: Turn,
) -> tuple[tuple[int, float], ...]:
    """(number, gain) of examples, the worst first; features [V, N, H], the rest are those of `fit_head`.

    Judged on the folds, numbers of examples, that an example is not in, by Student's test: of harmless ones one in
    twenty is among them at most.
    """
    if len(truth) > MOST_TRIED:
        return ()

    def losses(some: Sequence[Sequence[int]], allowed: Sequence[int]) -> Tensor:
        """[N] negative log-likelihoods of the examples in some folds."""
        predicted = predict_held_out(features, truth, names, some, allowed, turn)
        return -predicted.gather(1, truth[:, None]).flatten()

    everything = range(len(truth))
    with_all = losses(folds, everything)
    found = []
    for number in everything:
        others = [fold for fold in folds if number not in fold]
        without = losses(others, [n for n in everything if n != number])
        judged = [n for fold in others for n in fold]
        gain = (with_all - without)[judged]
        if len(gain) < _FEWEST_JUDGED:
            continue
        mean, error = gain.mean().item(), (gain.std() / len(gain) ** 0.5).item()
        if mean > _LEAST_GAIN and mean > t95(len(gain) - 1, one_sided=True) * error:
            found.append((number, mean))
    return tuple(sorted(found, key=lambda one: -one[1]))
