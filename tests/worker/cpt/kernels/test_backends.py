"""Every backend of attention against one plain softmax, forward and backward."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.worker.cpt.kernels.twin import TWIN
from worker.cpt.kernels import cpu, cuda, reference
from worker.cpt.kernels.backend import MASKED, Backend, backend_for

SCALE = 0.3


#: What the CPU's backend does with large problems, whatever their size.
PRODUCTS: Any = SimpleNamespace(forward=cpu.product_forward, backward=cpu.product_backward)
BACKENDS: dict[str, Backend] = {"reference": reference, "cpu": cpu, "cpu's products": PRODUCTS, "twin of cuda": TWIN}


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("size", [5, 150, 300])
@pytest.mark.parametrize("width", [8, 13])
@pytest.mark.parametrize("masks", [0, 1, 2])
def test_backends_are_one_softmax_forward_and_backward(name: str, size: int, width: int, masks: int) -> None:
    """Causal, under one mask, and under one for each set of keys; small enough for flash, and in several blocks."""
    backend = BACKENDS[name]
    torch.manual_seed(size)
    query, grad = torch.randn(2, 3, size, width, requires_grad=True), torch.randn(2, 3, size, width)
    key, value = (torch.randn(2, size, width, requires_grad=True) for _ in range(2))
    mask = torch.where(torch.rand(masks, size, size) < 0.3, MASKED, 0.0) if masks else None
    added = torch.full((1, size, size), MASKED).triu(1) if mask is None else mask
    scores = query @ key[:, None].transpose(-1, -2) * SCALE + added[:, None]
    expected = scores.softmax(-1) @ value[:, None]
    expected_grads = torch.autograd.grad(expected, (query, key, value), grad)
    query, key, value = (tensor.detach() for tensor in (query, key, value))
    output, lse = backend.forward(query, key, value, mask, mask is None, SCALE)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(lse, scores.logsumexp(-1))
    grads = backend.backward(grad, query, key, value, (output, lse), mask, mask is None, SCALE)
    torch.testing.assert_close(grads, expected_grads, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize(("queries", "keys"), [(1, 40), (70, 3), (33, 17)])
@pytest.mark.parametrize("hidden", [False, True])
def test_part_of_a_larger_softmax_has_its_share_of_the_gradient(
    name: str, queries: int, keys: int, hidden: bool
) -> None:
    """Two sets of keys computed apart, given the merged result, have the gradients of both together."""
    backend = BACKENDS[name]
    torch.manual_seed(keys)
    query, grad = torch.randn(2, 3, queries, 8), torch.randn(2, 3, queries, 8)
    key, value = torch.randn(2, 2 * keys, 8), torch.randn(2, 2 * keys, 8)
    mask = torch.zeros(1, queries, keys).masked_fill(torch.rand(queries, keys) < 0.5, MASKED) if hidden else None
    if mask is not None:
        mask[:, 0] = MASKED  # this query sees nothing of either part but what is merged in
    both = None if mask is None else torch.cat([mask, torch.zeros_like(mask)], 2)
    whole = reference.forward(query, key, value, both, False, SCALE)
    expected = reference.backward(grad, query, key, value, whole, both, False, SCALE)
    parts = [slice(0, keys), slice(keys, 2 * keys)]
    grads = [
        backend.backward(grad, query, key[:, part], value[:, part], whole, seen, False, SCALE)
        for part, seen in zip(parts, (mask, None), strict=True)
    ]
    torch.testing.assert_close(grads[0][0] + grads[1][0], expected[0], rtol=1e-4, atol=1e-5)
    for number in (1, 2):
        torch.testing.assert_close(
            torch.cat([found[number] for found in grads], 1), expected[number], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("name", BACKENDS)
def test_query_that_sees_no_key_weighs_nothing_in_a_merge(name: str) -> None:
    query, keys = torch.randn(1, 2, 3, 8), torch.randn(1, 5, 8)
    _, lse = BACKENDS[name].forward(query, keys, keys, torch.full((1, 3, 5), MASKED), False, SCALE)
    assert bool((lse < MASKED / 2).all())
    assert bool(lse.isfinite().all())


@pytest.mark.parametrize("masks", [0, 1, 5])
def test_more_sets_of_keys_than_a_grid_of_blocks_has_are_computed_in_parts(
    masks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "_MOST_SETS", 2)
    query, keys = torch.randn(5, 2, 3, 8), torch.randn(5, 4, 8)
    mask = torch.where(torch.rand(masks, 3, 4) < 0.3, MASKED, 0.0) if masks else None
    result = reference.forward(query, keys, keys, mask, False, SCALE)
    torch.testing.assert_close(TWIN.forward(query, keys, keys, mask, False, SCALE), result)
    ours, theirs = (each.backward(query, query, keys, keys, result, mask, False, SCALE) for each in (TWIN, reference))
    torch.testing.assert_close(ours, theirs)


def test_device_has_its_backend_and_unknown_ones_the_reference() -> None:
    assert backend_for(torch.device("cpu"), torch.float32) is cpu
    assert backend_for(torch.device("cuda"), torch.bfloat16).__name__ == "worker.cpt.kernels.cuda"  # type: ignore[attr-defined]
    assert backend_for(torch.device("cuda"), torch.float64) is reference
    assert backend_for(torch.device("meta"), torch.float32) is reference
