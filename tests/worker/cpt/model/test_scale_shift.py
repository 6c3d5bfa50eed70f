import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig

from tests.worker import tiny
from worker.cpt.model.scale_shift import UpperLayers

TEXTS = ["a fine film", "x", "this was rather long and not very good, all things considered"]


def drawn(size: int) -> Tensor:
    return 0.1 * torch.randn(2, size, generator=torch.Generator().manual_seed(0))


def test_upper_layers_are_the_linear_ones_of_the_upper_two_thirds() -> None:
    model = tiny.sentence_encoder().model
    upper = UpperLayers.of(model)
    top = [module for module in model.encoder.layer[1].modules() if isinstance(module, nn.Linear)]
    assert list(upper.linears) == top
    assert upper.size == 6 * 24


def test_model_without_a_list_of_its_layers_has_none() -> None:
    class Shared(nn.Module):
        config = BertConfig(num_hidden_layers=2)

    assert UpperLayers.of(Shared()).size == 0


def test_changed_layer_scales_and_shifts_what_it_gives() -> None:
    upper = tiny.sentence_encoder().upper
    linear, rows, change = upper.linears[-1], torch.randn(3, 24), drawn(upper.size)
    plain = linear(rows)
    with upper.changed(change):
        changed = linear(rows)
    scale, shift = change[:, -24:]
    torch.testing.assert_close(changed, plain * (1 + scale) + shift)
    assert torch.equal(linear(rows), plain)


def test_change_ends_with_its_block_whatever_ends_it() -> None:
    encoder = tiny.sentence_encoder()
    plain = encoder.embed(TEXTS)
    with pytest.raises(RuntimeError, match="broken"), encoder.upper.changed(drawn(encoder.upper.size)):
        raise RuntimeError("broken")
    assert torch.equal(encoder.embed(TEXTS), plain)


def test_vectors_with_a_change_of_nothing_are_those_without() -> None:
    encoder = tiny.sentence_encoder()
    plain = encoder.embed(TEXTS)
    assert torch.equal(encoder.embed(TEXTS, change=torch.zeros(2, encoder.upper.size)), plain)
    changed = encoder.embed(TEXTS, change=drawn(encoder.upper.size))
    assert (changed[0] - plain[0]).abs().amax(1).min() > 1e-4
    assert torch.equal(encoder.embed(TEXTS), plain)
