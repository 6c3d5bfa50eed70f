"""A search on the device: it goes on from its state, as a checkpoint holds it, as if unbroken."""

from dataclasses import replace

import pytest
import safetensors.torch
import torch

from tests.gpu.test_encoder import on
from tests.worker import tiny
from tests.worker.cpt.selection.test_search import AUTO, run, shots
from worker.cpt.scoring.prefix import PrefixKV
from worker.cpt.selection.search import Search


def search(device: torch.device) -> Search:
    return Search(tiny.causal_model().to(device), (on(device),), shots(), replace(AUTO, encoder_steps=2))


@pytest.mark.parametrize("done", range(0, 30, 3))
def test_search_goes_on_from_a_checkpoint(device: torch.device, done: int) -> None:
    unbroken, first, second = run(search(device)), search(device), search(device)
    for _ in range(done):
        if not first.finished:
            first.step()
    stored = {name: tensor.contiguous() for name, tensor in first.state().items()}
    second.load_state(safetensors.torch.load(safetensors.torch.save(stored)))
    resumed = run(second)
    for one, other in zip(resumed.prompts, unbroken.prompts, strict=True):
        assert one.delta.device == one.epsilon.device
        assert float((one.delta.norm(dim=1) / one.epsilon).max()) <= 1.001
        PrefixKV.compute(tiny.causal_model().to(device), one.embeds)
        torch.testing.assert_close(one.delta, other.delta, rtol=1e-3, atol=1e-4)
