import pytest
import torch
from torch import Tensor

from tests.worker.turns import TurnEnded, Watched
from worker.cpt.scoring.head import ENOUGH_JUDGED, PENALTIES, USUAL_PENALTY, Head, LabelledFeatures, Regression

VIEWS, SIZE = 2, 16
CENTRES = torch.randn(VIEWS, 3, SIZE, generator=torch.Generator().manual_seed(3))
TRUTH = torch.tensor([0, 1, 2] * 6)


def around(truth: Tensor, noise: float = 0.3, seed: int = 4) -> Tensor:
    """[V, N, H] near the centres of the labels."""
    shape = VIEWS, len(truth), SIZE
    return CENTRES[:, truth] + noise * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


NAMES = around(torch.arange(3), noise=1.0, seed=5)


def given(truth: Tensor = TRUTH, noise: float = 0.3, names: Tensor | None = NAMES) -> LabelledFeatures:
    return LabelledFeatures(around(truth, noise), truth, 3, names)


def fit(features: Tensor, truth: Tensor, names: Tensor | None) -> Head:
    return LabelledFeatures(features, truth, 3, names).fit(USUAL_PENALTY)


def test_head_tells_apart_what_can_be_told_apart() -> None:
    head = given().fit(USUAL_PENALTY)
    unseen = torch.tensor([2, 0, 1, 1])
    found = head.log_probabilities(CENTRES[:, unseen])
    assert torch.equal(found.argmax(1), unseen)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize("penalty", PENALTIES)
def test_fit_is_where_the_penalised_likelihood_is_flat(penalty: float) -> None:
    """The gradient of the loss by weight and bias, written down independently, is zero."""
    features = around(TRUTH)
    head = fit_with(features, penalty)
    weight, bias = head.weight.double().requires_grad_(), head.bias.double().requires_grad_()
    logits, targets = bias, torch.cat([TRUTH, torch.arange(3)])
    for view in range(VIEWS):
        rows = torch.cat([features[view].double(), NAMES[view].double()])
        rows = (rows - head.center[view].double()) * head.scale[view].double()
        logits = logits + (rows / rows.norm(dim=1, keepdim=True) / VIEWS**0.5) @ weight[view]
    counts = torch.tensor([1.0] * len(TRUTH) + [2.0] * 3)  # a label's name counts as two examples
    likelihood = (counts * logits.log_softmax(1)[range(len(targets)), targets]).sum()
    loss = -likelihood + penalty / 2 * (weight.square().sum() + bias.square().sum())
    for gradient in torch.autograd.grad(loss, (weight, bias)):
        assert gradient.abs().max() < 1e-3


def fit_with(features: Tensor, penalty: float) -> Head:
    return LabelledFeatures(features, TRUTH, 3, NAMES).fit(penalty)


def test_offset_of_a_dimension_does_not_matter() -> None:
    moved = torch.linspace(-5, 5, SIZE)
    first = fit(around(TRUTH), TRUTH, NAMES).log_probabilities(around(TRUTH))
    second = fit(around(TRUTH) + moved, TRUTH, NAMES + moved).log_probabilities(around(TRUTH) + moved)
    torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-3)


def test_deviation_of_few_rows_is_shrunk_to_that_of_all_dimensions() -> None:
    """Two rows that agree in a dimension by chance must not make it count a thousandfold."""
    features = torch.randn(1, 2, SIZE, generator=torch.Generator().manual_seed(0))
    features[0, 1, 0] = features[0, 0, 0]
    scale = LabelledFeatures(features, torch.tensor([0, 1]), 2).fit(USUAL_PENALTY).scale
    assert scale.max() < 3 * scale.min()


def test_what_a_label_is_called_stands_in_for_examples_that_it_lacks() -> None:
    two = TRUTH[TRUTH != 2]
    assert fit(around(two), two, CENTRES).log_probabilities(CENTRES).argmax(1).tolist() == [0, 1, 2]


def test_same_input_gives_the_same_bits() -> None:
    first, second = (given().fit(USUAL_PENALTY) for _ in range(2))
    assert torch.equal(first.weight, second.weight)


@pytest.mark.parametrize("rows", [1, 2])
def test_hardly_any_rows_and_a_label_without_one_are_no_error(rows: int) -> None:
    head = fit(torch.ones(VIEWS, rows, SIZE), torch.arange(rows), torch.ones(VIEWS, 3, SIZE))
    assert head.log_probabilities(torch.zeros(VIEWS, 2, SIZE)).isfinite().all()


@pytest.mark.parametrize("rows", [1, 2])
def test_with_one_example_judged_predictions_are_even_and_the_penalty_is_the_usual_one(rows: int) -> None:
    some = LabelledFeatures(torch.ones(VIEWS, rows, SIZE), torch.arange(rows), 3, torch.ones(VIEWS, 3, SIZE))
    found = some.cross_fit([[0]], [0])
    assert found.penalty == USUAL_PENALTY
    torch.testing.assert_close(found.predicted.exp(), torch.full((rows, 3), 1 / 3, dtype=torch.float64))


def test_label_of_a_held_out_example_has_no_part_in_its_prediction() -> None:
    other = TRUTH.clone()
    other[:3] = torch.tensor([1, 2, 0])
    folds = [[0, 1, 2], [3, 4, 5]]
    first = given().cross_fit(folds, [0, 1, 2, 3, 4, 5])
    second = LabelledFeatures(around(TRUTH), other, 3, NAMES).cross_fit(folds, [0, 1, 2, 3, 4, 5])
    if first.penalty == second.penalty:
        assert torch.equal(first.predicted[:3], second.predicted[:3])
    assert not torch.equal(first.predicted[3:6], second.predicted[3:6])


def test_noise_is_fitted_with_a_strong_penalty_and_what_is_clear_with_a_weak_one() -> None:
    rows = range(len(TRUTH))
    folds = [list(range(6)), list(range(6, 12)), list(range(12, 18))]
    noise, clear = (given(noise=noise, names=None).cross_fit(folds, rows).penalty for noise in (20.0, 0.1))
    assert noise > clear


@pytest.mark.parametrize(("size", "weak"), [(ENOUGH_JUDGED, True), (ENOUGH_JUDGED // 2 - 1, False)])
def test_first_folds_choose_the_penalty_of_the_others_where_they_are_large_enough(size: int, weak: bool) -> None:
    """The first two folds can be told apart; the third, which all folds together would go by, is noise."""
    truth = torch.arange(5 * size) % 3
    features = torch.cat([around(truth[: 2 * size]), around(truth[2 * size :], 50.0)], 1)
    folds = [range(size), range(size, 2 * size), range(2 * size, 5 * size)]
    given = LabelledFeatures(features, truth, 3)
    found = given.cross_fit(folds, range(5 * size))
    assert (found.penalty < max(PENALTIES)) == weak
    own = Regression(given, range(2 * size)).solve(found.penalty)
    expected = own.log_probabilities(features[:, 2 * size :])
    torch.testing.assert_close(found.predicted[2 * size :], expected, atol=0.01, rtol=0.01)


def test_regression_without_an_example_is_that_of_the_others() -> None:
    features = LabelledFeatures(around(TRUTH), TRUTH, 3)
    regression = Regression(features, range(len(TRUTH)))
    regression.solve(0.1)
    without = regression.solve(0.1, left_out=5)
    other = torch.tensor([*TRUTH[:5].tolist(), 0, *TRUTH[6:].tolist()])
    changed = Regression(LabelledFeatures(around(TRUTH), other, 3), range(len(TRUTH))).solve(0.1, left_out=5)
    torch.testing.assert_close(without.weight, changed.weight, rtol=1e-3, atol=1e-3)


def test_fit_can_be_ended_between_two_steps() -> None:
    with pytest.raises(TurnEnded):
        given().fit(USUAL_PENALTY, Watched(last=3))
    with pytest.raises(TurnEnded):
        given().cross_fit([[0], [1]], range(2), Watched(last=3))
