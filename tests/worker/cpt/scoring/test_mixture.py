import torch

from worker.cpt.scoring.mixture import fit_mixture, prior_mixture

PRIOR = (0.5, 0.5)
TRUTH = torch.tensor([0, 1] * 200)


def parts(confidence: float, right: float, n: int = 400) -> torch.Tensor:
    """[1, n, 2] log-probabilities that are equally confident everywhere and right in a share of the rows."""
    truth = TRUTH[:n]
    said = torch.where(torch.arange(n) < right * n, truth, 1 - truth)
    said = said[torch.randperm(n, generator=torch.Generator().manual_seed(0))] if right == 0.5 else said
    row = torch.full((n, 2), 1 - confidence, dtype=torch.float64)
    row[range(n), said] = confidence
    return row.log()[None]


def test_weight_makes_confidence_what_it_is_worth() -> None:
    overconfident = parts(confidence=0.99, right=0.75)
    mixture = fit_mixture(overconfident, TRUTH, (1.0,))
    confidence = mixture.probabilities(overconfident).max(1).values
    torch.testing.assert_close(confidence.mean(), torch.tensor(0.75, dtype=torch.float64), atol=0.02, rtol=0)


def test_part_that_knows_more_weighs_more() -> None:
    both = torch.cat([parts(0.8, right=0.95), parts(0.8, right=0.5)])
    weights = fit_mixture(both, TRUTH, PRIOR).weights
    assert weights[0] > 2 * weights[1]


def test_few_examples_leave_the_weights_nearly_alone() -> None:
    both = torch.cat([parts(0.8, right=0.95)[:, -2:], parts(0.8, right=0.5)[:, -2:]])
    weights = fit_mixture(both, TRUTH[-2:], PRIOR).weights
    assert (weights - torch.tensor(PRIOR)).abs().max() < 0.2


def test_many_examples_silence_a_part_that_is_wrong() -> None:
    both = torch.cat([parts(0.9, right=0.9), parts(0.99, right=0.3)])
    assert fit_mixture(both, TRUTH, PRIOR).weights[1] < 0.05


def test_bias_takes_back_what_is_said_too_often() -> None:
    leaning = torch.tensor([[0.9, 0.1]]).repeat(400, 1).log()[None]
    mixture = fit_mixture(leaning, TRUTH, (1.0,))
    assert mixture.probabilities(leaning)[0, 0] < 0.65


def test_prior_mixture_of_one_part_with_weight_one_is_a_softmax() -> None:
    part = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(1)).log_softmax(2)
    torch.testing.assert_close(prior_mixture((1.0,), 3).probabilities(part), part[0].double().exp())


def test_same_input_gives_the_same_bits() -> None:
    first, second = (fit_mixture(parts(0.9, 0.8), TRUTH, (1.0,)) for _ in range(2))
    assert torch.equal(first.weights, second.weights)
    assert torch.equal(first.bias, second.bias)
