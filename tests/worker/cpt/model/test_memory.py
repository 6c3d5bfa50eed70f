"""What a graph holds: counted, and freed with the graph."""

import weakref

import torch
from torch import nn

from worker.cpt.model.memory import GraphMeter


def test_graph_that_is_dropped_is_freed_though_it_was_metered() -> None:
    """`exp` keeps its own result, which leads back to the graph that keeps it."""
    meter = GraphMeter(nn.Linear(2, 2))
    with meter.metering():
        result = torch.ones(3, requires_grad=True).exp()
    assert meter.nbytes == 12
    freed = weakref.ref(result)
    del result
    assert freed() is None


def test_metered_graph_goes_back_as_any_other() -> None:
    layer = nn.Linear(2, 2).requires_grad_(False)
    found: list[torch.Tensor] = []
    for metered in (False, True):
        leaf = torch.ones(3, 2, requires_grad=True)
        meter = GraphMeter(layer)
        if metered:
            with meter.metering():
                result = layer(leaf).exp()
        else:
            result = layer(leaf).exp()
        found += torch.autograd.grad(result.sum(), leaf)
        assert meter.nbytes == (24 if metered else 0)  # the weights are the model's
    assert torch.equal(*found)
