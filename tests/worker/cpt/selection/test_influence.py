import pytest
import torch
from torch import Tensor

from tests.worker.turns import TurnEnded, Watched
from worker.cpt.scoring.head import USUAL_PENALTY, LabelledFeatures
from worker.cpt.selection.influence import MOST_TRIED, harmful_examples, suspect_examples, suspects_among

VIEWS, LABELS, SIZE = 2, 2, 12
CENTRES = torch.randn(VIEWS, LABELS, SIZE, generator=torch.Generator().manual_seed(0))


def near(meant: Tensor, noise: float) -> Tensor:
    """[V, N, H] near the centres of the labels."""
    generator = torch.Generator().manual_seed(1)
    return CENTRES[:, meant] + noise * torch.randn(VIEWS, len(meant), SIZE, generator=generator)


def found(count: int, *wrong: int) -> tuple[tuple[int, float], ...]:
    """What harms among so many examples, of which some have the wrong label."""
    meant = torch.arange(count) % LABELS
    truth = meant.clone()
    truth[list(wrong)] = 1 - truth[list(wrong)]
    folds = [list(range(count))[turn::3] for turn in range(3)]
    return harmful_examples(LabelledFeatures(near(meant, 0.2), truth, LABELS, CENTRES), USUAL_PENALTY, folds)


def test_example_with_a_wrong_label_harms_and_no_other_does() -> None:
    ((number, gain),) = found(30, 4)
    assert number == 4
    assert gain > 0.02


def test_where_every_label_is_right_nothing_harms() -> None:
    assert found(12) == ()


@pytest.mark.parametrize("count", [6, 12])
def test_chance_alone_hardly_ever_makes_any_example_harmful(count: int) -> None:
    """Features that tell nothing of the labels: whatever is found is chance, in a tenth of the sets at most."""
    named = 0
    for seed in range(15):
        generator = torch.Generator().manual_seed(seed)
        features = torch.randn(VIEWS, count, SIZE, generator=generator)
        folds = [list(range(count))[turn::2] for turn in range(2)]
        truth = torch.randint(LABELS, (count,), generator=generator)
        named += bool(harmful_examples(LabelledFeatures(features, truth, LABELS, CENTRES), 0.1, folds))
    assert named <= 0.2 * 15


def test_only_example_of_a_label_is_never_named() -> None:
    """Labelled otherwise than the examples like it, and the one of its label: nothing but that shows what it means."""
    meant = torch.arange(30) % LABELS
    truth, folds = meant.clone(), [list(range(30))[turn::3] for turn in range(3)]
    truth[4] = LABELS
    assert harmful_examples(LabelledFeatures(near(meant, 0.2), truth, LABELS + 1), USUAL_PENALTY, folds) == ()


def test_among_many_examples_none_is_tried() -> None:
    few, many = torch.arange(MOST_TRIED) % LABELS, torch.arange(MOST_TRIED + 1) % LABELS
    with pytest.raises(TurnEnded):
        harmful_examples(LabelledFeatures(near(few, 0.2), few, LABELS), 0.1, [[0], [1]], Watched(last=1))
    assert harmful_examples(LabelledFeatures(near(many, 0.2), many, LABELS), 0.1, [[0]], Watched(last=1)) == ()


def predictions(
    n: int, labels: int, planted: float, expected: float, strength: float, seed: int
) -> tuple[Tensor, Tensor, set[int]]:
    """Probabilities [N, L] that expect a share of wrong labels, labels of which a share is wrong, and their rows."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, labels, generator=generator, dtype=torch.float64)
    right = (strength * noise).softmax(1)
    truth = torch.multinomial(right, 1, generator=generator).flatten()
    wrong = torch.randperm(n, generator=generator)[: round(planted * n)]
    truth[wrong] = (truth[wrong] + 1 + torch.randint(labels - 1, (len(wrong),), generator=generator)) % labels
    probabilities = (1 - expected) * right + expected * (1 - right) / (labels - 1)
    return probabilities, truth, set(wrong.tolist())


@pytest.mark.parametrize(("planted", "expected"), [(0.05, 0.05), (0.05, 0.0), (0.2, 0.05)])
@pytest.mark.parametrize("labels", [2, 4, 20])
def test_planted_wrong_labels_are_found_with_few_mistakes(labels: int, planted: float, expected: float) -> None:
    """At least 70% are found, and of those named 60% are wrong at least."""
    named = hits = every = 0
    for seed in range(20):
        probabilities, truth, wrong = predictions(200, labels, planted, expected, 15.0, seed)
        suspects = {row for row, _ in suspect_examples(probabilities, truth)}
        named, hits, every = named + len(suspects), hits + len(suspects & wrong), every + len(wrong)
    assert hits >= 0.7 * every
    assert hits >= 0.6 * named


def test_of_right_labels_hardly_any_is_suspect() -> None:
    named = sum(len(suspect_examples(*predictions(200, 4, 0.0, 0.0, 3.0, seed)[:2])) for seed in range(20))
    assert named <= 0.02 * 200 * 20


def test_suspects_come_with_the_likeliest_first_and_are_predicted_otherwise() -> None:
    probabilities, truth, _ = predictions(200, 4, 0.1, 0.1, 8.0, 0)
    found = suspect_examples(probabilities, truth)
    chances = [chance for _, chance in found]
    assert chances == sorted(chances, reverse=True)
    assert all(int(probabilities[row].argmax()) != int(truth[row]) for row, _ in found)
    assert suspect_examples(probabilities[:0], truth[:0]) == ()


def test_examples_of_a_label_that_none_was_recognised_as_are_not_suspect() -> None:
    """Two of a hundred have a label that is never predicted, one of the others a wrong one."""
    probabilities = torch.tensor([[0.998, 0.001, 0.001]] * 60 + [[0.001, 0.998, 0.001]] * 40, dtype=torch.float64)
    labels = [0] * 59 + [1] * 41
    labels[10] = labels[11] = 2
    assert [one.number for one in suspects_among(range(100), probabilities, labels)] == [59]
