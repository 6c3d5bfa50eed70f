import pytest
import torch

from tests.worker import tiny
from tests.worker.turns import TurnEnded, Watched
from worker.cpt.model.sentence_encoder import MAX_TEXT_TOKENS

TEXTS = ["a fine film", "x", "this was rather long and not very good, all things considered"]


def test_vectors_are_means_of_an_ordinary_forward() -> None:
    encoder = tiny.sentence_encoder()
    found = encoder.embed(TEXTS)
    for number, text in enumerate(TEXTS):
        ids = torch.tensor([encoder.tokenizer("query: " + text)["input_ids"]])
        read = encoder.model(input_ids=ids, output_hidden_states=True)
        for view, states in zip(found, (read.last_hidden_state, read.hidden_states[1]), strict=True):
            mean = states[0].mean(0)
            torch.testing.assert_close(view[number], mean / mean.norm(), rtol=1e-4, atol=1e-4)


def test_vector_does_not_depend_on_what_else_is_embedded() -> None:
    encoder = tiny.sentence_encoder()
    together = encoder.embed([*TEXTS, "y" * 90])
    for number, text in enumerate(TEXTS):
        torch.testing.assert_close(together[:, number], encoder.embed([text])[:, 0], rtol=1e-4, atol=1e-4)


def test_long_text_is_read_up_to_the_limit() -> None:
    encoder = tiny.sentence_encoder()
    first, second = encoder.embed(["ab" * MAX_TEXT_TOKENS, "ab" * 2 * MAX_TEXT_TOKENS]).unbind(1)
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)


def test_offer_of_the_turn_before_a_pass_can_end_the_work() -> None:
    with pytest.raises(TurnEnded):
        tiny.sentence_encoder().embed(TEXTS, Watched(last=1))


def test_no_texts_have_no_vectors() -> None:
    assert tiny.sentence_encoder().embed([]).shape == (2, 0, 24)
