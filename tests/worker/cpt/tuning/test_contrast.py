import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.worker import tiny
from worker.cpt.model.sentence_encoder import SentenceEncoder
from worker.cpt.tuning.contrast import ContrastiveTuner, contrastive_loss

TEXTS = [f"a {word} film {number}" for number in range(3) for word in ("good", "bad", "long", "short")]
TRUTH = [0, 1, 0, 1] * 3


@pytest.fixture
def encoder() -> SentenceEncoder:
    return tiny.sentence_encoder()


def tuner(encoder: SentenceEncoder, steps: int, seed: int = 0, copies: int = 1) -> ContrastiveTuner:
    texts = TEXTS * copies
    return ContrastiveTuner(encoder, texts, TRUTH * copies, center(encoder), steps, seed)


def center(encoder: SentenceEncoder) -> Tensor:
    return encoder.embed(TEXTS)[0].mean(0)


def tuned(running: ContrastiveTuner) -> list[float]:
    losses = []
    while not running.finished:
        losses.append(running.step())
    return losses


def test_loss_is_the_one_of_the_paper() -> None:
    rows = functional.normalize(torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    truth = torch.tensor([0, 1, 0, 0, 2])
    likeness = (rows @ rows.T / 0.3).tolist()
    expected = []
    for anchor in (0, 2, 3):
        others = math.log(sum(math.exp(likeness[anchor][other]) for other in range(5) if other != anchor))
        same = [likeness[anchor][other] - others for other in (0, 2, 3) if other != anchor]
        expected.append(-sum(same) / len(same))
    assert contrastive_loss(rows, truth).item() == pytest.approx(sum(expected) / 3, rel=1e-5)


def test_loss_of_rows_without_a_pair_is_nothing() -> None:
    assert contrastive_loss(torch.eye(3), torch.arange(3)).item() == 0


def test_gradient_is_that_of_all_texts_in_one_pass(encoder: SentenceEncoder) -> None:
    """Passes are read, and differentiated, apart."""
    running = tuner(encoder, 3)
    running.step()
    batch = list(range(len(TEXTS)))
    _, found = running._gradient(batch)
    change = running.change.requires_grad_()
    with encoder.upper.changed(change):
        vectors = encoder.last_vectors(encoder.tokens(TEXTS))
    rows = functional.normalize(vectors - center(encoder), dim=1)
    (expected,) = torch.autograd.grad(contrastive_loss(rows, torch.tensor(TRUTH)), change)
    assert found.abs().max() > 0
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


def test_texts_of_a_label_come_to_lie_together(encoder: SentenceEncoder) -> None:
    running = tuner(encoder, 12)
    tuned(running)

    def apart(change: Tensor | None) -> float:
        rows = functional.normalize(encoder.embed(TEXTS, change=change)[0] - center(encoder), dim=1)
        return contrastive_loss(rows, torch.tensor(TRUTH)).item()

    assert apart(running.change) < 0.9 * apart(None)


def test_model_itself_stays_as_it_is(encoder: SentenceEncoder) -> None:
    before = {name: tensor.clone() for name, tensor in encoder.model.state_dict().items()}
    tuned(tuner(encoder, 2))
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.model.state_dict().items())


class Others:
    """Read the same encoder whenever they have a turn."""

    def __init__(self, encoder: SentenceEncoder) -> None:
        self.encoder = encoder
        self.read: list[Tensor] = []

    def offer(self, _: float | None = None, /) -> None:
        self.read.append(self.encoder.embed(TEXTS))


def test_others_read_the_encoder_as_it_is_between_passes(encoder: SentenceEncoder) -> None:
    plain, others, running, alone = encoder.embed(TEXTS), Others(encoder), tuner(encoder, 3), tuner(encoder, 3)
    losses = [running.step(others) for _ in range(3)]
    assert len(others.read) >= 6
    assert all(torch.equal(read, plain) for read in others.read)
    assert losses == tuned(alone)
    assert torch.equal(running.change, alone.change)


def test_same_seed_finds_the_same(encoder: SentenceEncoder) -> None:
    runs = [tuner(encoder, 2, seed, copies=4) for seed in (1, 1, 2)]
    for run in runs:
        tuned(run)
    assert torch.equal(runs[0].change, runs[1].change)
    assert not torch.equal(runs[0].change, runs[2].change)


def test_step_takes_a_few_texts_of_each_label(encoder: SentenceEncoder) -> None:
    some = tuner(encoder, 1, copies=4)._batch()
    assert [sum(TRUTH[place % 12] == label for place in some) for label in (0, 1)] == [4, 4]


def test_step_on_long_texts_takes_fewer_labels(encoder: SentenceEncoder) -> None:
    truth = [label for label in range(8) for _ in range(5)]
    texts = ["long " * 60 for _ in truth]
    few = ContrastiveTuner(encoder, texts, truth, torch.zeros(encoder.size), 1, 0)._batch()
    short = ContrastiveTuner(encoder, ["x"] * len(truth), truth, torch.zeros(encoder.size), 1, 0)._batch()
    assert len(few) == 16
    assert len(short) == 32
