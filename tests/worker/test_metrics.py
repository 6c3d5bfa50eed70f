"""Against values computed by hand."""

import math

import pytest
import torch

from worker.metrics import _figures, compare, evaluate, threshold, wilson_interval

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


def test_figures_of_every_resample_are_those_of_its_rows_alone() -> None:
    probabilities, truth = many(20)
    draws = torch.randint(20, (3, 20), generator=torch.Generator().manual_seed(2))
    together = _figures(probabilities, truth, draws)
    for number, draw in enumerate(draws):
        alone = evaluate(probabilities[draw], truth[draw])
        for name, values in together.items():
            assert values[number].item() == pytest.approx(getattr(alone, name))


def test_difference_is_paired() -> None:
    probabilities, truth = many()
    same = compare(probabilities, probabilities, truth)
    assert (same.accuracy, same.accuracy_ci95, same.nll, same.nll_ci95) == (0, (0, 0), 0, (0, 0))
    better = compare(torch.eye(3, dtype=torch.float64)[truth], probabilities, truth)
    assert better.accuracy == pytest.approx(1 - evaluate(probabilities, truth).accuracy)
    assert better.accuracy_ci95[0] > 0
    assert better.nll_ci95[1] < 0


def test_threshold_is_the_least_confidence_with_the_wanted_precision() -> None:
    sure = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]], dtype=torch.float64)
    found = threshold(sure, torch.tensor([0, 0, 1, 0]), 0.7)
    assert found
    assert [found.min_confidence, found.coverage] == pytest.approx([0.6, 1.0], abs=2e-4)
    found = threshold(sure, torch.tensor([0, 0, 1, 1]), 0.9)
    assert found
    assert [found.min_confidence, found.coverage] == pytest.approx([0.8, 0.5], abs=2e-4)
    assert threshold(sure, torch.tensor([1, 1, 1, 1]), 0.5) is None


@pytest.mark.parametrize("nearly", [0.0, 2e-5])
def test_threshold_counts_all_that_are_as_sure(nearly: float) -> None:
    """Ten equal confidences, or ten that a multiple of 0.0001 cannot tell apart, the first seven of them right."""
    sure = torch.tensor([[0.95005 - nearly * place / 10, 0.04] for place in range(10)], dtype=torch.float64)
    truth = torch.tensor([0] * 7 + [1] * 3)
    assert threshold(sure, truth, 0.9) is None
    found = threshold(sure, truth, 0.7)
    assert found
    assert (found.coverage, (sure.max(1).values >= found.min_confidence).double().mean().item()) == (1.0, 1.0)
