"""A sentence encoder on the device: vectors with a change of its upper layers, and tuning, as on the CPU."""

import torch

from tests.worker.tiny import sentence_encoder
from worker.cpt.model.sentence_encoder import SentenceEncoder
from worker.cpt.tuning.contrast import ContrastiveTuner

TEXTS = [f"a {word} film {number}" for number in range(3) for word in ("good", "bad", "long", "short")]
TRUTH = [0, 1, 0, 1] * 3


def on(device: torch.device) -> SentenceEncoder:
    encoder = sentence_encoder()
    encoder.model.to(device)
    return encoder


def tuned(encoder: SentenceEncoder) -> tuple[torch.Tensor, list[float]]:
    tuner = ContrastiveTuner(encoder, TEXTS, TRUTH, encoder.embed(TEXTS)[0].mean(0), 4, 0)
    losses = [tuner.step() for _ in range(4)]
    return tuner.change, losses


def test_tuning_and_its_vectors_are_those_of_the_cpu(device: torch.device) -> None:
    here, there = on(torch.device("cpu")), on(device)
    (change, losses), (other, others) = tuned(here), tuned(there)
    torch.testing.assert_close(torch.tensor(others), torch.tensor(losses), rtol=1e-3, atol=1e-3)
    assert other.device.type == "cpu"
    expected = here.embed(TEXTS, change=change)
    assert not torch.allclose(expected, here.embed(TEXTS), atol=1e-3)
    torch.testing.assert_close(there.embed(TEXTS, change=change), expected, rtol=1e-3, atol=1e-4)
