"""Batch calibration: corrected by what all inputs of a request seem to be."""

import math

import pytest

from app.classification.batch_calibration import batch_calibrated
from app.contract.messages import Scored


def scored(*rows: tuple[float, ...]) -> list[Scored]:
    return [Scored(confidences=row, tokens=number, truncated=number % 2 == 1) for number, row in enumerate(rows)]


def test_label_that_the_context_favours_is_corrected() -> None:
    found = batch_calibrated(scored((0.9, 0.1), (0.6, 0.4)))
    # The odds are 9 and 1.5, their geometric mean sqrt(13.5).
    for one, odds in zip(found, (9 / math.sqrt(13.5), 1.5 / math.sqrt(13.5)), strict=True):
        assert one.confidences == pytest.approx((odds / (1 + odds), 1 / (1 + odds)))


def test_confidences_sum_to_one_and_the_rest_stays() -> None:
    given = scored((0.2, 0.5, 0.3), (1.0, 0.0, 0.0), (1e-300, 1.0, 1e-200), (0.1, 0.1, 0.8))
    found = batch_calibrated(given)
    for one, was in zip(found, given, strict=True):
        assert sum(one.confidences) == pytest.approx(1.0)
        assert (one.tokens, one.truncated) == (was.tokens, was.truncated)


def test_a_common_favour_changes_nothing() -> None:
    rows = [(0.2, 0.5, 0.3), (0.7, 0.2, 0.1), (0.3, 0.3, 0.4)]
    favoured = [(8 * a, b, c / 3) for a, b, c in rows]
    favoured = [(a / (a + b + c), b / (a + b + c), c / (a + b + c)) for a, b, c in favoured]
    for one, other in zip(batch_calibrated(scored(*rows)), batch_calibrated(scored(*favoured)), strict=True):
        assert one.confidences == pytest.approx(other.confidences)


def test_equal_inputs_say_nothing() -> None:
    for one in batch_calibrated(scored(*[(0.7, 0.2, 0.1)] * 3)):
        assert one.confidences == pytest.approx((1 / 3, 1 / 3, 1 / 3))
