"""Batch calibration (Zhou et al. 2023, arXiv 2309.17249): what the inputs of one request say of the labels together.

A label that all of them seem to have is probably one that the context favours. It needs no label of any input, but
makes each answer depend on the other inputs: only who sends inputs of all kinds together may want that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Final

from app.contract.messages import Scored

#: Inputs that are needed: the mean over fewer says more of them than of the context.
FEWEST: Final = 16
_SMALLEST: Final = 1e-12


def batch_calibrated(scored: Sequence[Scored]) -> list[Scored]:
    """The inputs of one request, each confidence divided by its label's geometric mean over them, to sum to 1 again."""
    logarithms = [[math.log(max(confidence, _SMALLEST)) for confidence in one.confidences] for one in scored]
    means = [fmean(column) for column in zip(*logarithms, strict=True)]
    rows = (_softmax([one - mean for one, mean in zip(row, means, strict=True)]) for row in logarithms)
    return [one.model_copy(update={"confidences": row}) for one, row in zip(scored, rows, strict=True)]


def _softmax(logits: Sequence[float]) -> tuple[float, ...]:
    highest = max(logits)
    powers = [math.exp(logit - highest) for logit in logits]
    total = math.fsum(powers)
    return tuple(power / total for power in powers)
