"""Against values computed by hand."""

import math

import pytest
import torch

from tests.worker.turns import Watched
from worker.evaluation.figures import (
    chance_ece,
    compare,
    evaluate,
    held_out_interval,
    paired_interval,
    wilson_interval,
)

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
    assert held_out_interval(share, n) == pytest.approx((low, high + (1 - high) / 3), abs=5e-5)


def test_brier_is_the_squared_distance_from_the_truth() -> None:
    distances = [0.04 + 0.01 + 0.01, 0.36 + 0.49 + 0.01, 0.0625 + 0.25 + 0.0625, 0.81 + 0.81]
    assert evaluate(PROBABILITIES, TRUTH).brier == pytest.approx(sum(distances) / 4)


def many(n: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    truth = torch.randint(3, (n,), generator=generator)
    logits = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    logits[range(n), truth] += 1
    return logits.softmax(1), truth


def test_intervals_hold_the_figure_and_are_about_four_errors_wide() -> None:
    probabilities, truth = many()
    score = evaluate(probabilities, truth)
    losses = -probabilities[range(400), truth].log()
    low, high = score.nll_ci95
    assert high - low == pytest.approx(2 * 1.96 * losses.std().item() / 20, rel=0.15)
    for name in ("accuracy", "macro_f1", "nll", "brier"):
        low, high = getattr(score, f"{name}_ci95")
        assert low < getattr(score, name) < high


@pytest.mark.parametrize("n", [2, 3, 8])
def test_intervals_of_few_are_wide_although_all_are_right(n: int) -> None:
    truth = torch.arange(n) % 2
    probabilities = torch.tensor([0.8, 0.2] * n, dtype=torch.float64)[: 2 * n].view(n, 2)
    probabilities[truth == 1] = torch.tensor([0.3, 0.7], dtype=torch.float64)
    score = evaluate(probabilities, truth)
    assert (score.accuracy, score.macro_f1) == (1.0, 1.0)
    assert score.macro_f1_ci95[0] < 0.8
    assert score.macro_f1_ci95[1] == 1.0
    assert score.nll_ci95[0] < score.nll - 0.05
    assert score.nll_ci95[1] > score.nll + 0.05
    assert score.ece_ci95[0] == 0.0  # right so often by chance
    assert score.ece_ci95[1] >= score.ece


def test_of_one_input_nothing_is_known() -> None:
    one = torch.tensor([[0.7, 0.3]], dtype=torch.float64)
    score = evaluate(one, torch.tensor([0]))
    assert score.brier_ci95 == (0.0, 2.0)
    assert score.nll_ci95 == pytest.approx((0.0, -math.log(1e-12)))
    assert compare(one, one.flip(1), torch.tensor([0])).accuracy_ci95[0] < 0


def test_overconfidence_shows_in_the_interval_of_the_ece() -> None:
    probabilities, truth = many()
    sharpened = probabilities**3 / (probabilities**3).sum(1, keepdim=True)
    assert evaluate(probabilities, truth).ece_ci95[0] == 0.0
    assert evaluate(sharpened, truth).ece_ci95[0] > 0.05


def test_ece_to_expect_of_honest_confidences_shrinks_with_their_number() -> None:
    halves = torch.full((1, 2), 0.5, dtype=torch.float64)
    assert chance_ece(halves) == pytest.approx(0.5)
    # Of 100 tosses the share of heads is off by sqrt(2 / pi) standard deviations on average.
    assert chance_ece(halves.expand(100, 2)) == pytest.approx(0.05 * math.sqrt(2 / math.pi), rel=0.1)


def test_many_inputs_are_resampled_in_blocks() -> None:
    turn = Watched()
    probabilities, truth = many(3000)
    evaluate(probabilities, truth, turn)
    assert len(turn.offers) == 4 * math.ceil(1000 / (2**18 // 3000))


@pytest.mark.parametrize(
    ("gained", "lost", "n", "low", "high"),
    [(0, 0, 8, -0.196, 0.196), (8, 0, 8, 0.4839, 1.0), (10, 5, 100, -0.0273, 0.1253)],
)
def test_paired_interval(gained: int, lost: int, n: int, low: float, high: float) -> None:
    assert paired_interval(gained, lost, n) == pytest.approx((low, high), abs=5e-4)


def test_difference_is_paired() -> None:
    probabilities, truth = many()
    same = compare(probabilities, probabilities, truth)
    assert (same.accuracy, same.nll, same.nll_ci95) == (0, 0, (0, 0))
    assert same.accuracy_ci95 == pytest.approx((-0.0049, 0.0049), abs=1e-4)
    better = compare(torch.eye(3, dtype=torch.float64)[truth], probabilities, truth)
    assert better.accuracy == pytest.approx(1 - evaluate(probabilities, truth).accuracy)
    assert better.accuracy_ci95[0] > 0
    assert better.nll_ci95[1] < 0
