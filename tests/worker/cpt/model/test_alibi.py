import pytest
import torch
from transformers.models.bloom import modeling_bloom

from worker.cpt.model.alibi import alibi_slopes


@pytest.mark.parametrize("heads", [1, 2, 3, 5, 8, 12, 14, 16, 112])
def test_slopes_are_those_of_bloom(heads: int) -> None:
    biases = modeling_bloom.build_alibi_tensor(torch.ones(1, 2, dtype=torch.long), heads, torch.float32)
    slopes = biases[:, 0, 1]  # what the second token's key counts more than the first one's
    torch.testing.assert_close(alibi_slopes(heads, torch.device("cpu")), slopes, rtol=1e-6, atol=0)
