import pytest
import torch
from torch import Tensor

from tests.worker.turns import TurnEnded, Watched
from worker.cpt.scoring.head import fit_head, predict_held_out

VIEWS, SIZE = 2, 16
CENTRES = torch.randn(VIEWS, 3, SIZE, generator=torch.Generator().manual_seed(3))
TRUTH = torch.tensor([0, 1, 2] * 6)


def around(truth: Tensor, noise: float = 0.3, seed: int = 4) -> Tensor:
    """[V, N, H] near the centres of the labels."""
    shape = VIEWS, len(truth), SIZE
    return CENTRES[:, truth] + noise * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


NAMES = around(torch.arange(3), noise=1.0, seed=5)


def test_head_tells_apart_what_can_be_told_apart() -> None:
    head = fit_head(around(TRUTH), TRUTH, NAMES)
    unseen = torch.tensor([2, 0, 1, 1])
    found = head.log_probabilities(CENTRES[:, unseen])
    assert torch.equal(found.argmax(1), unseen)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(4, dtype=torch.float64))


def test_fit_is_where_the_penalised_likelihood_is_flat() -> None:
    """The gradient of the loss by weight and bias, written down independently, is zero."""
    features = around(TRUTH)
    head = fit_head(features, TRUTH, NAMES)
    weight, bias = head.weight.double().requires_grad_(), head.bias.double().requires_grad_()
    logits, targets = bias, torch.cat([TRUTH, torch.arange(3)])
    for view in range(VIEWS):
        seen = features[view].double()
        rows = (torch.cat([seen, NAMES[view].double()]) - seen.mean(0)) / seen.std(0, correction=0)
        logits = logits + (rows / rows.norm(dim=1, keepdim=True) / VIEWS**0.5) @ weight[view]
    likelihood = logits.log_softmax(1)[range(len(targets)), targets].sum()
    loss = -likelihood + 0.01 * (weight.square().sum() + bias.square().sum())
    for gradient in torch.autograd.grad(loss, (weight, bias)):
        assert gradient.abs().max() < 1e-4


def test_scale_and_offset_of_a_dimension_do_not_matter() -> None:
    def moved(features: Tensor) -> Tensor:
        return features * torch.linspace(0.1, 20, SIZE) + torch.linspace(-5, 5, SIZE)

    features = around(TRUTH)
    first = fit_head(features, TRUTH, NAMES).log_probabilities(features)
    second = fit_head(moved(features), TRUTH, moved(NAMES)).log_probabilities(moved(features))
    torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-3)


def test_what_a_label_is_called_stands_in_for_examples_that_it_lacks() -> None:
    two = TRUTH[TRUTH != 2]
    head = fit_head(around(two), two, CENTRES)
    assert head.log_probabilities(CENTRES).argmax(1).tolist() == [0, 1, 2]


def test_same_input_gives_the_same_bits() -> None:
    first, second = (fit_head(around(TRUTH), TRUTH, NAMES) for _ in range(2))
    assert torch.equal(first.weight, second.weight)


@pytest.mark.parametrize("rows", [1, 2])
def test_hardly_any_rows_and_a_label_without_one_are_no_error(rows: int) -> None:
    head = fit_head(torch.ones(VIEWS, rows, SIZE), torch.arange(rows), torch.ones(VIEWS, 3, SIZE))
    assert head.log_probabilities(torch.zeros(VIEWS, 2, SIZE)).isfinite().all()


def test_fit_can_be_ended_between_two_steps() -> None:
    with pytest.raises(TurnEnded):
        fit_head(around(TRUTH), TRUTH, NAMES, Watched(last=3))
    with pytest.raises(TurnEnded):
        predict_held_out(around(TRUTH), TRUTH, NAMES, [[0], [1]], range(len(TRUTH)), Watched(last=3))
