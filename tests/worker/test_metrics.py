"""Against values computed by hand."""

import math

import pytest
import torch

from worker.metrics import evaluate, wilson_interval

# Predicted 0, 0, 1, 2; the truth is 0, 1, 1, 0: two of four are right.
PROBABILITIES = torch.tensor(
    [[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.25, 0.5, 0.25], [0.1, 0.0, 0.9]], dtype=torch.float64
)
TRUTH = torch.tensor([0, 1, 1, 0])


def test_accuracy_and_n() -> None:
    score = evaluate(PROBABILITIES, TRUTH)
    assert (score.accuracy, score.n) == (0.5, 4)


def test_macro_f1_is_the_mean_over_the_labels_that_occur() -> None:
    # Label 0: one hit of two predicted and two true, F1 = 2/4. Label 1: 2/(1+2). Label 2: predicted once, never true.
    assert evaluate(PROBABILITIES, TRUTH).macro_f1 == pytest.approx((0.5 + 2 / 3 + 0.0) / 3)


def test_nll_is_the_mean_surprise_in_nats() -> None:
    expected = -(math.log(0.8) + math.log(0.3) + math.log(0.5) + math.log(0.1)) / 4
    assert evaluate(PROBABILITIES, TRUTH).nll == pytest.approx(expected)


def test_nll_of_an_impossible_label_is_finite() -> None:
    score = evaluate(torch.tensor([[1.0, 0.0]], dtype=torch.float64), torch.tensor([1]))
    assert score.nll == pytest.approx(-math.log(1e-12))


def test_ece_weighs_the_gap_of_each_bin() -> None:
    # Confidences 0.8 (right), 0.6 (wrong), 0.5 (right), 0.9 (wrong), each alone in its bin.
    assert evaluate(PROBABILITIES, TRUTH).ece == pytest.approx((0.2 + 0.6 + 0.5 + 0.9) / 4)


def test_ece_averages_within_a_bin_and_certainty_falls_into_the_last() -> None:
    # 0.92 and 1.0 share a bin: mean confidence 0.96, accuracy 0.5.
    sure = torch.tensor([[0.92, 0.08], [1.0, 0.0]], dtype=torch.float64)
    assert evaluate(sure, torch.tensor([0, 1])).ece == pytest.approx(0.46)


def test_perfect_predictions() -> None:
    score = evaluate(torch.eye(3, dtype=torch.float64), torch.arange(3))
    assert (score.accuracy, score.macro_f1, score.nll, score.ece) == (1.0, 1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("share", "n", "low", "high"),
    [(0.5, 10, 0.2366, 0.7634), (0.0, 10, 0.0, 0.2775), (1.0, 10, 0.7225, 1.0), (0.9, 100, 0.8256, 0.9448)],
)
def test_wilson_interval(share: float, n: int, low: float, high: float) -> None:
    assert wilson_interval(share, n) == pytest.approx((low, high), abs=5e-5)
