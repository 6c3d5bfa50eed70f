import pytest
import torch
from torch import Tensor

from tests.worker.turns import TurnEnded, Watched
from worker.cpt.selection.influence import MOST_TRIED, harmful_examples
from worker.cpt.turn import ALONE

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
    return harmful_examples(near(meant, 0.2), truth, CENTRES, folds, ALONE)


def test_example_with_a_wrong_label_harms_and_no_other_does() -> None:
    ((number, gain),) = found(12, 4)
    assert number == 4
    assert gain > 0.02


def test_worst_comes_first() -> None:
    (first, most), (second, less) = found(14, 4, 7)
    assert {first, second} == {4, 7}
    assert most > less


def test_where_every_label_is_right_nothing_harms() -> None:
    assert found(12) == ()


@pytest.mark.parametrize("count", [4, 6])
def test_chance_alone_hardly_makes_an_example_harmful(count: int) -> None:
    """Features that tell nothing of the labels: whatever is found is chance."""
    named = 0
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        features = torch.randn(VIEWS, count, SIZE, generator=generator)
        folds = [list(range(count))[turn::2] for turn in range(2)]
        truth = torch.randint(LABELS, (count,), generator=generator)
        named += len(harmful_examples(features, truth, CENTRES, folds, ALONE))
    assert named <= 0.07 * 40 * count


def test_among_many_examples_none_is_tried() -> None:
    few, many = torch.arange(MOST_TRIED) % LABELS, torch.arange(MOST_TRIED + 1) % LABELS
    with pytest.raises(TurnEnded):
        harmful_examples(near(few, 0.2), few, CENTRES, [[0], [1]], Watched(last=1))
    assert harmful_examples(near(many, 0.2), many, CENTRES, [[0], [1]], Watched(last=1)) == ()
