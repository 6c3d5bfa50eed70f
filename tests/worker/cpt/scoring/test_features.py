from typing import Any

import pytest
import torch
from torch import Tensor

from tests.worker import tiny
from tests.worker.turns import TurnEnded, Watched
from worker.cpt.scoring.features import TEXT_TOKENS, VIEWS, features

TEXTS = ["a fine film", "x", "this was rather long and not very good, all things considered"]


@pytest.fixture
def model() -> Any:
    return tiny.causal_model()


def ids(text: str) -> list[int]:
    found: list[int] = tiny.tokenizer()(text)["input_ids"]
    return found


@torch.no_grad()
def plain(model: Any, row: list[int], layer: int, read_from: int) -> Tensor:
    """One ordinary forward of one row."""
    states = model(input_ids=torch.tensor([row]), output_hidden_states=True).hidden_states[layer]
    mean: Tensor = states[0, read_from:].mean(0)
    return mean


def test_features_are_those_of_ordinary_forwards(model: Any) -> None:
    found = features(model, tiny.tokenizer(), TEXTS, 512)
    for number, text in enumerate(TEXTS):
        echo = [0, *ids(text), *ids("\nIn other words:")]
        word = [0, *ids('This text: "'), *ids(text), *ids('" means in one word: "')]
        for view, layer in enumerate(view.layer(2) for view in VIEWS):
            rows = (echo + ids(" " + text), len(echo)) if VIEWS[view].prompt == "echo" else (word, len(word) - 1)
            torch.testing.assert_close(found[view, number], plain(model, rows[0], layer, rows[1]), rtol=1e-4, atol=1e-4)


def test_features_do_not_depend_on_what_else_is_read(model: Any) -> None:
    together = features(model, tiny.tokenizer(), [*TEXTS, "y" * 700], 512)
    for number, text in enumerate(TEXTS):
        alone = features(model, tiny.tokenizer(), [text], 512)
        torch.testing.assert_close(together[:, number], alone[:, 0], rtol=1e-5, atol=1e-5)


def test_long_text_is_read_as_far_as_there_is_room(model: Any) -> None:
    texts = ["ab" * 1000, "ab" * (TEXT_TOKENS // 2), "ab" * 50, "ab" * 49]
    found = features(model, tiny.tokenizer(), texts, 4096)
    torch.testing.assert_close(found[2:, 0], found[2:, 1], rtol=1e-5, atol=1e-5)
    short = features(model, tiny.tokenizer(), texts, 264)  # which leaves room for 100 tokens of a text
    torch.testing.assert_close(short[2:, 0], short[2:, 2], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(short[2:, 2], short[2:, 3], rtol=1e-3)


def test_offer_of_the_turn_before_a_pass_can_end_the_work(model: Any) -> None:
    with pytest.raises(TurnEnded):
        features(model, tiny.tokenizer(), TEXTS, 512, Watched(last=1))
