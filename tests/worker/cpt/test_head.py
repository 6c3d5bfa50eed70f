import pytest
import torch
from torch import Tensor

from worker.cpt.head import fit_head

GENERATOR = torch.Generator().manual_seed(3)
CENTRES = torch.randn(3, 16, generator=GENERATOR)
TRUTH = torch.tensor([0, 1, 2] * 6)


def around(truth: Tensor, noise: float = 0.3) -> Tensor:
    return CENTRES[truth] + noise * torch.randn(len(truth), 16, generator=torch.Generator().manual_seed(4))


def test_head_tells_apart_what_can_be_told_apart() -> None:
    head = fit_head(around(TRUTH), TRUTH, 3)
    unseen = torch.tensor([2, 0, 1, 1])
    found = head.log_probabilities(CENTRES[unseen])
    assert torch.equal(found.argmax(1), unseen)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(4, dtype=torch.float64))


def test_fit_is_where_the_penalised_likelihood_is_flat() -> None:
    """The gradient of the loss by weight and bias, written down independently, is zero."""
    features = around(TRUTH)
    head = fit_head(features, TRUTH, 3)
    weight, bias = head.weight.double().requires_grad_(), head.bias.double().requires_grad_()
    deviation = features.double().std(0, correction=0)
    rows = (features.double() - features.double().mean(0)) / deviation
    rows = rows / rows.norm(dim=1, keepdim=True)
    likelihood = (rows @ weight + bias).log_softmax(1)[range(len(TRUTH)), TRUTH].sum()
    loss = -likelihood + 0.01 * (weight.square().sum() + bias.square().sum())
    for gradient in torch.autograd.grad(loss, (weight, bias)):
        assert gradient.abs().max() < 1e-4


def test_scale_and_offset_of_a_dimension_do_not_matter() -> None:
    features = around(TRUTH)
    moved = features * torch.linspace(0.1, 20, 16) + torch.linspace(-5, 5, 16)
    first = fit_head(features, TRUTH, 3).log_probabilities(features)
    second = fit_head(moved, TRUTH, 3).log_probabilities(moved)
    torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-3)


def test_same_input_gives_the_same_bits() -> None:
    first, second = (fit_head(around(TRUTH), TRUTH, 3) for _ in range(2))
    assert torch.equal(first.weight, second.weight)


@pytest.mark.parametrize("rows", [1, 2])
def test_hardly_any_rows_and_a_label_without_one_are_no_error(rows: int) -> None:
    head = fit_head(torch.ones(rows, 16), torch.arange(rows), 3)
    assert head.log_probabilities(torch.zeros(2, 16)).isfinite().all()
