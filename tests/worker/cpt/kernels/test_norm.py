"""Fused norms, on the CPU, against those of transformers."""

import copy

import pytest
import torch

from tests.worker.architectures import tiny_model
from worker.cpt.kernels.norm import FusedNorm

IDS = torch.tensor([[1, 20, 21, 22, 23]])


@pytest.mark.parametrize("architecture", ["llama", "mistral", "qwen2", "qwen3"])
def test_model_with_fused_norms_gives_the_same_logits_and_gradients(architecture: str) -> None:
    plain = tiny_model(architecture).requires_grad_(False)
    fused = copy.deepcopy(plain)
    assert sum(FusedNorm.convert(module) for module in fused.modules()) >= 2 * plain.config.num_hidden_layers + 1
    found = []
    for model in (plain, fused):
        embeds = model.get_input_embeddings()(IDS).detach().requires_grad_()
        logits = model(inputs_embeds=embeds).logits
        found.append((logits, *torch.autograd.grad(logits.logsumexp(-1).sum(), embeds)))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ["gemma", "opt"])
def test_other_norms_stay_as_they_are(architecture: str) -> None:
    assert not any(FusedNorm.convert(module) for module in tiny_model(architecture).modules())
