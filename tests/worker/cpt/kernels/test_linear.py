"""Linear layers of a prepared model against torch's own."""

import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.worker.tiny import causal_model
from worker.cpt.kernels import linear
from worker.cpt.kernels.linear import FrozenLinear
from worker.cpt.model.base_model import prepare


@pytest.fixture(params=[False, True], ids=["onednn", "mkl"], autouse=True)
def _fastest(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor that either library serves best."""
    monkeypatch.setattr(linear, "mkl_is_fastest", lambda: request.param)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(5, 24), (2, 3, 24), (1, 24), (0, 24)])
def test_output_and_gradient_are_those_of_the_layer(shared: bool, bias: bool, shape: tuple[int, ...]) -> None:
    theirs = nn.Linear(24, 17, bias=bias).requires_grad_(False)
    ours = deepcopy(theirs)
    FrozenLinear.convert(ours, shared)
    rows = torch.randn(shape, requires_grad=True)
    outputs = [layer(rows) for layer in (ours, theirs)]
    torch.testing.assert_close(*outputs)
    weights = torch.randn_like(outputs[0])
    # A gradient that is not contiguous, as attention gives it.
    gradients = [torch.autograd.grad(output, rows, weights.mT.contiguous().mT) for output in outputs]
    torch.testing.assert_close(*gradients)


def test_shared_weight_is_copied_for_onednn_alone() -> None:
    layer = nn.Linear(24, 17)
    FrozenLinear.convert(layer, shared=True)
    assert (layer.columns.data_ptr() == layer.weight.data_ptr()) == linear.mkl_is_fastest()  # type: ignore[operator]


def test_layer_of_another_device_stays_as_it_is() -> None:
    layer = nn.Linear(24, 17, device="meta")
    weight = layer.weight
    FrozenLinear.convert(layer, shared=True)
    assert type(layer) is nn.Linear
    assert layer.weight is weight
    assert not list(layer.buffers())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_are_left_to_torch(dtype: torch.dtype) -> None:
    theirs = nn.Linear(24, 17).to(dtype).requires_grad_(False)
    ours = deepcopy(theirs)
    FrozenLinear.convert(ours, shared=False)
    rows = torch.randn(5, 24, dtype=dtype)
    torch.testing.assert_close(ours(rows), theirs(rows))


def test_without_onednn_torch_multiplies() -> None:
    """As on macOS with Apple's processors, where torch is built without these operators."""
    script = """
import torch
torch.ops.mkldnn = object()
torch.backends.mkl.is_available = lambda: False
from tests.worker.tiny import causal_model
from worker.cpt.model.trial import try_out
from worker.cpt.kernels.linear import product
try_out(causal_model())
rows, weight = torch.randn(3, 4), torch.randn(5, 4)
assert torch.equal(product(rows, weight), rows @ weight.T)
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[4])


def test_prepared_model_has_the_same_weights_and_logits() -> None:
    model, ids = causal_model(), torch.tensor([[5, 9, 7]])
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    logits = model(ids).logits
    prepare(model)
    prepare(model)
    assert any(isinstance(module, FrozenLinear) for module in model.modules())
    assert set(model.state_dict()) == set(weights)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, weights[name])
    torch.testing.assert_close(model(ids).logits, logits)
