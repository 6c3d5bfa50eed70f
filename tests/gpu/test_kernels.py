"""The device's attention against plain arithmetic in float32."""

import pytest
import torch

from tests.worker.cpt.oracle import relative
from worker.cpt.kernels import reference
from worker.cpt.kernels.backend import MASKED, backend_for

SCALE = 0.2
#: float32 may be multiplied in TF32 nowhere; bfloat16 keeps 8 bits of each number, 2^-8 = 0.4%, inputs included.
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 2e-2}


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("masks", [0, 1, 2])
@pytest.mark.parametrize(("queries", "keys", "width"), [(70, 70, 24), (256, 256, 64), (33, 33, 13)])
def test_attention_is_one_softmax_forward_and_backward(
    device: torch.device, dtype: torch.dtype, masks: int, queries: int, keys: int, width: int
) -> None:
    generator = torch.Generator().manual_seed(queries)
    shapes = (2, 3, queries, width), (2, 3, queries, width), (2, keys, width), (2, keys, width)
    query, grad, key, value = (torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes)
    mask = torch.where(torch.rand(masks, queries, keys, generator=generator) < 0.3, MASKED, 0.0) if masks else None
    mask, causal = (None if mask is None else mask.to(device)), masks == 0
    exact = query.float(), key.float(), value.float()
    result = reference.forward(*exact, mask, causal, SCALE)
    expected = *result, *reference.backward(grad.float(), *exact, result, mask, causal, SCALE)
    backend = backend_for(device, dtype)
    output, lse = backend.forward(query, key, value, mask, causal, SCALE)
    found = output, lse, *backend.backward(grad, query, key, value, (output, lse), mask, causal, SCALE)
    for ours, theirs in zip(found, expected, strict=True):
        assert relative(ours.float(), theirs) < TOLERANCES[dtype]
