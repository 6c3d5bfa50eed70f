"""Attention over a shared context against one plain softmax over all visible keys."""

import pytest
import torch
from torch import Tensor

from worker.cpt.model.attention import attend
from worker.cpt.model.packing import Packing, hide

SCALE = 0.3
LENGTHS = [3, 1, 4]
CONTEXT = 6


def tensors(tokens: int, heads: tuple[int, ...] = (4, 2, 2)) -> list[Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    return [torch.randn(count, tokens, 8, generator=generator, dtype=torch.float64).requires_grad_() for count in heads]


def plain(query: Tensor, key: Tensor, value: Tensor, seen: Tensor) -> Tensor:
    """Attention [H, N, D] over keys [G, S, D] where `seen` [N, S] is true."""
    key, value = (tensor.repeat_interleave(query.shape[0] // key.shape[0], 0) for tensor in (key, value))
    scores = (query @ key.transpose(1, 2) * SCALE).masked_fill(~seen, float("-inf"))
    return scores.softmax(-1) @ value


def rows_seen(lengths: list[int]) -> Tensor:
    return torch.block_diag(*(torch.ones(length, length).tril() for length in lengths)).bool()


@pytest.mark.parametrize("lengths", [[5], LENGTHS])
@pytest.mark.parametrize("hidden", [False, True])
def test_output_and_gradients_are_those_of_one_softmax(lengths: list[int], hidden: bool) -> None:
    query, key, value = tensors(sum(lengths))
    context_key, context_value = tensors(CONTEXT, (2, 2))
    marks = torch.zeros(len(lengths), CONTEXT, dtype=torch.bool)
    marks[0, 1:4] = hidden
    mask = hide(lengths, list(marks))
    packing = Packing.causal(lengths, CONTEXT, torch.device("cpu"), mask)
    context_seen = torch.ones(sum(lengths), CONTEXT) if mask is None else (mask == 0)
    seen = torch.cat([context_seen.bool(), rows_seen(lengths)], 1)
    ours = attend(query, key, value, (context_key, context_value), packing, SCALE)
    theirs = plain(query, torch.cat([context_key, key], 1), torch.cat([context_value, value], 1), seen)
    torch.testing.assert_close(ours, theirs)
    inputs = (query, key, value, context_key, context_value)
    weights = torch.randn_like(theirs)
    gradients = [torch.autograd.grad(output, inputs, weights) for output in (ours, theirs)]
    torch.testing.assert_close(*gradients)


def test_rows_without_a_context_see_themselves_only() -> None:
    query, key, value = tensors(sum(LENGTHS))
    packing = Packing.causal(LENGTHS, 0, torch.device("cpu"))
    ours = attend(query, key, value, None, packing, SCALE)
    torch.testing.assert_close(ours, plain(query, key, value, rows_seen(LENGTHS)))


def test_row_that_sees_nothing_of_the_context_falls_back_on_itself() -> None:
    query, key, value = tensors(3)
    context_key, context_value = tensors(CONTEXT, (2, 2))
    mask = hide([3], [torch.ones(CONTEXT, dtype=torch.bool)])
    packing = Packing.causal([3], CONTEXT, torch.device("cpu"), mask)
    ours = attend(query, key, value, (context_key, context_value), packing, SCALE)
    torch.testing.assert_close(ours, plain(query, key, value, rows_seen([3])))
    gradients = torch.autograd.grad(ours.sum(), (query, context_key, context_value))
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    assert not gradients[1].any()
    assert not gradients[2].any()
