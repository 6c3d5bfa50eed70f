import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from app.contract.tuning import Hyperparameters
from worker.evaluation.verdict import error_bound, fewest_for, threshold, verdict


def answers(n: int, wrong: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Confidences that fall from 1 to 0.5; the least sure ones are wrong."""
    confidence = torch.linspace(0.99, 0.51, n, dtype=torch.float64)
    truth = torch.zeros(n, dtype=torch.int64)
    truth[n - wrong :] = 1
    return torch.stack([confidence, 1 - confidence], 1), truth


@pytest.mark.parametrize(
    ("wrong", "n", "expected"), [(0, 59, 0.0495), (0, 10, 0.2589), (1, 10, 0.3942), (5, 100, 0.1023), (10, 10, 1.0)]
)
def test_error_bound_is_the_exact_one(wrong: int, n: int, expected: float) -> None:
    assert error_bound(wrong, n) == pytest.approx(expected, abs=2e-4)


def test_bound_holds_in_as_many_cases_as_it_says() -> None:
    generator, held = torch.Generator().manual_seed(0), 0
    for _ in range(400):
        wrong = int((torch.rand(80, generator=generator) < 0.07).sum())
        held += error_bound(wrong, 80) >= 0.07
    assert held >= 0.93 * 400


@pytest.mark.parametrize("target", [0.05, 0.1, 0.01])
def test_fewest_is_what_supports_a_target_without_an_error(target: float) -> None:
    fewest = fewest_for(target)
    assert error_bound(0, fewest) <= target + 1e-9 < error_bound(0, fewest - 1)


def test_threshold_answers_as_many_as_are_supported() -> None:
    probabilities, truth = answers(500, wrong=60)
    found = threshold(probabilities, truth, 0.95)
    assert found
    assert found.coverage == pytest.approx(0.8, abs=0.01)
    kept = probabilities.max(1).values >= found.min_confidence
    assert (int(kept.sum()), found.precision) == (found.answered, 1.0)
    low, high = found.precision_ci95
    assert low < found.precision <= high + 1e-12
    assert threshold(*answers(500, wrong=0), 0.95).coverage == 1.0  # type: ignore[union-attr]


def test_threshold_does_not_rest_on_a_few_answers() -> None:
    assert threshold(*answers(60, wrong=0), 0.95) is None
    assert threshold(*answers(100, wrong=0), 0.95)


def test_threshold_holds_on_new_inputs_as_often_as_it_says() -> None:
    """Calibrated confidences: of all thresholds named, one in twenty at most lets more errors pass than it says."""
    generator, named, broken = torch.Generator().manual_seed(0), 0, 0
    for _ in range(200):
        confidence = 0.5 + 0.5 * torch.rand(300, generator=generator, dtype=torch.float64)
        right = torch.rand(300, generator=generator, dtype=torch.float64) < confidence
        found = threshold(torch.stack([confidence, 1 - confidence], 1), (~right).long(), 0.9)
        if found:
            named += 1
            broken += (1 + found.min_confidence) / 2 < 0.9
    assert named > 10
    assert broken <= 1


@pytest.mark.parametrize(
    ("n", "wrong", "decision", "said"),
    [
        (200, 1, "serve", "1 of 200"),
        (500, 60, "serve_above_threshold", "min_confidence"),
        (30, 0, "more_examples", "0 of 30 measured answers were wrong; 59 at least"),
        (58, 30, "more_examples", "30 of 58 measured answers were wrong; 59 at least"),
        (200, 190, "more_examples", "190 of 200"),
    ],
)
def test_verdict_says_what_to_do_and_why(n: int, wrong: int, decision: str, said: str) -> None:
    found = verdict(*answers(n, wrong), 0.05)
    assert found.decision == decision
    assert said in found.reason


def test_where_the_surest_are_right_but_too_few_nothing_else_is_said_of_them() -> None:
    found = verdict(*answers(100, 42), 0.05)
    assert found.decision == "more_examples"
    assert "42 of 100 measured answers were wrong, and those above no confidence are right often enough" in found.reason


def test_what_never_recognises_a_label_is_not_to_be_served_however_rare_the_label_is() -> None:
    assert verdict(*answers(300, 2), 0.05).decision == "serve"
    found = verdict(*answers(300, 2), 0.05, ["rare"])
    assert (found.decision, "no text of 'rare' was recognised" in found.reason) == ("more_examples", True)
    many = verdict(*answers(300, 2), 0.05, [f"label {number}" for number in range(8)])
    assert many.reason.endswith("'label 4' and 3 more was recognised")


def test_smallest_error_that_may_be_asked_for_has_a_verdict() -> None:
    target = Hyperparameters(target_error=1e-6).target_error
    found = verdict(*answers(30, 0), target)
    assert (found.decision, "2995731 at least" in found.reason) == ("more_examples", True)
    assert "at most 0.0001%" in found.reason
    for smaller in (9e-7, 5e-324):
        with pytest.raises(ValidationError, match="target_error"):
            Hyperparameters(target_error=smaller)


def test_without_held_out_examples_more_are_wanted() -> None:
    assert verdict(None, None, 0.05).decision == "more_examples"


@pytest.mark.parametrize(
    ("n", "said"), [(10_000, "at most 0.030% can"), (63, "at most 4.7% can"), (200, "at most 1.5% can")]
)
def test_expected_errors_are_told_rounded_up(n: int, said: str) -> None:
    assert said in verdict(*answers(n, 0), 0.05).reason
