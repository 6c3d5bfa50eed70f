from typing import Any

import pytest
import torch
from torch import Tensor

from tests.worker import tiny
from worker.cpt.encoding.context import encode_queries
from worker.cpt.encoding.shots import Shots
from worker.cpt.encoding.template import Template
from worker.cpt.scoring.head import LabelledFeatures
from worker.cpt.scoring.mixture import Mixture
from worker.cpt.selection.choice import (
    beyond_chance,
    choose,
    fluency,
    losses,
    nested_mixture,
    prior_weights,
    shortlist_of,
    shortlisted,
)
from worker.cpt.selection.encoder_part import views_of
from worker.cpt.selection.folds import balanced_folds


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def part(truth: Tensor, labels: int, strength: float, seed: int) -> Tensor:
    """[N, L] log-probabilities that know the truth the better the larger the strength."""
    noise = torch.randn(len(truth), labels, generator=generator(seed), dtype=torch.float64)
    return (noise + strength * torch.nn.functional.one_hot(truth, labels)).log_softmax(1)


class Pieces:
    """Reads ASCII in words, all else byte by byte."""

    def __call__(self, texts: list[str], **_: Any) -> dict[str, list[list[str]]]:
        pieces = [text.split() if text.isascii() else [str(byte) for byte in text.encode()] for text in texts]
        return {"input_ids": pieces}


def shots(*texts: str) -> Shots:
    labels, count = ("good", "bad"), len(texts)
    return Shots(Pieces(), Template(), labels, ((1,), (2,)), texts, tuple(range(count)), count)


def test_parts_of_a_language_model_that_spells_the_texts_begin_with_nothing() -> None:
    assert prior_weights(shots("a lovely warm film", "tedious"), True, True) == [0.5, 0.6, 0.6]
    assert prior_weights(shots("我的卡还没有到", "请帮帮我"), True, True) == [0.0, 0.0, 1.0]
    assert prior_weights(shots("我的卡还没有到", "请帮帮我"), True, True, True) == [0.0, 0.0, 1.0]
    mixed = prior_weights(shots("a lovely warm film", "没有到"), True, True)
    assert 0 < mixed[0] < 0.5
    assert 0.6 < mixed[2] < 1.0


def test_encoder_that_is_tuned_begins_with_other_weights_the_fewer_where_few_rows_judge_it() -> None:
    known = shots("a lovely warm film", "tedious")
    assert prior_weights(known, True, True, True, 16) == [0.3, 0.5, 0.8]
    assert prior_weights(known, True, True, True, 15) == [0.3, 0.5, 0.5]


def test_without_an_encoder_the_language_model_keeps_its_weights() -> None:
    assert prior_weights(shots("我的卡还没有到", "请帮帮我"), True, False) == [0.5, 0.6]


def test_preferred_trial_stays_where_another_is_better_by_chance_alone() -> None:
    """Equal trials: with a few rows the one preferred is taken in about five of six cases, not in one of two."""
    taken = 0
    for seed in range(60):
        first, second = torch.rand(2, 20, generator=generator(seed), dtype=torch.float64)
        taken += choose(1, {0: first, 1: second}) == 1
    assert taken >= 45


def test_trial_that_is_better_beyond_chance_is_taken_and_of_several_the_best() -> None:
    base = torch.rand(50, generator=generator(0), dtype=torch.float64)
    assert choose(1, {0: base - 0.5, 1: base, 2: base - 0.7}) == 2
    assert choose(1, {0: base + 0.5, 1: base}) == 1


@pytest.mark.parametrize(("rows", "expected"), [(0, 1), (1, 1), (8, 1), (15, 1), (16, 0)])
def test_few_rows_decide_nothing_however_much_they_agree(rows: int, expected: int) -> None:
    worse = torch.ones(rows, dtype=torch.float64)
    assert choose(1, {0: worse - 0.9, 1: worse}) == expected


def test_one_row_is_never_beyond_chance() -> None:
    one = torch.ones(1, dtype=torch.float64)
    assert not beyond_chance(one * 0, one)


def test_nested_predictions_have_not_seen_their_row() -> None:
    truth = torch.tensor([0, 1] * 15)
    parts = torch.stack([part(truth, 2, 1.0, 0), part(truth, 2, 2.0, 1)])
    first = nested_mixture(parts, truth, (0.5, 0.5), True, 0)
    other = truth.clone()
    other[0], other[1] = 1, 0  # the folds are dealt by label and so remain as many
    torch.testing.assert_close(first.sum(1), torch.ones(30, dtype=torch.float64))
    assert losses(first, truth).mean() < losses(parts.mean(0).softmax(1), truth).mean()
    assert not torch.equal(nested_mixture(parts, other, (0.5, 0.5), True, 0), first)


def test_uncalibrated_predictions_are_those_of_the_weights_given() -> None:
    truth = torch.tensor([0, 1] * 15)
    parts = part(truth, 2, 1.0, 0)[None]
    torch.testing.assert_close(nested_mixture(parts, truth, (1.0,), False, 0), parts[0].softmax(1))


TRUTH = torch.arange(200) % 20


@pytest.mark.parametrize(
    ("scores", "heads", "expected"),
    [(0.0, 5.0, 0), (0.5, 2.0, 4), (1.5, 2.0, 8), (3.0, 2.0, 16), (5.0, 0.0, None)],
)
def test_as_few_labels_are_scored_as_show_no_loss(scores: float, heads: float, expected: int | None) -> None:
    parts = torch.stack([part(TRUTH, 20, scores, 0), part(TRUTH, 20, heads, 1)])
    count, _, nested = shortlist_of(parts, TRUTH, (0.5, 0.6), 0)
    assert count == expected
    torch.testing.assert_close(nested.sum(1), torch.ones(200, dtype=torch.float64))


def test_too_few_rows_to_tell_list_the_usual_number_unless_they_speak_against_it() -> None:
    rows = TRUTH[:18]
    for scores, heads, expected in ((0.0, 5.0, 8), (5.0, 0.0, None)):
        parts = torch.stack([part(rows, 20, scores, 0), part(rows, 20, heads, 1)])
        assert shortlist_of(parts, rows, (0.5, 0.6), 0)[0] == expected


def test_few_labels_are_all_scored() -> None:
    truth = TRUTH % 4
    parts = torch.stack([part(truth, 4, 0.0, 0), part(truth, 4, 5.0, 1)])
    assert shortlist_of(parts, truth, (0.5, 0.6), 0)[0] is None


@pytest.mark.parametrize("count", [0, 1, 4, 20])
def test_shortlisted_probabilities_sum_to_one(count: int) -> None:
    parts = torch.stack([part(TRUTH, 20, 2.0, 0), part(TRUTH, 20, 2.0, 1)])
    whole, heads = Mixture(torch.tensor([0.5, 0.6]), torch.zeros(20)), Mixture(torch.tensor([0.8]), torch.zeros(20))
    found = shortlisted(parts, whole, heads, count)
    torch.testing.assert_close(found.sum(1), torch.ones(200, dtype=torch.float64))
    assert torch.equal(found, heads.probabilities(parts[1:])) == (count < 2)
    if count == 20:
        torch.testing.assert_close(found, whole.probabilities(parts))


@pytest.mark.parametrize(("rows", "below_tell", "views"), [(40, True, 2), (40, False, 1), (8, True, 1)])
def test_layers_below_the_last_are_read_only_where_enough_rows_are_better_predicted_with_them(
    rows: int, below_tell: bool, views: int
) -> None:
    drawn, truth = generator(0), torch.arange(rows) % 2
    told = 2.0 * (truth - 0.5)[:, None] + 0.8 * torch.randn(rows, 6, generator=drawn)
    noise = 3 * torch.randn(rows, 6, generator=drawn)
    every = LabelledFeatures(torch.stack([noise, told] if below_tell else [told, noise]), truth, 2)
    folds = balanced_folds(range(rows), truth.tolist(), 0)
    chosen = views_of(every, [(every, fold) for fold in folds])
    assert len(chosen.given.features) == views
    assert chosen.fit.predicted.shape == (rows, 2)


def test_tokenizer_still_reads_special_tokens_as_text_after_its_pieces_were_counted() -> None:
    """The flag is state of the tokenizer, which threads that plan and classify share."""
    tokenizer, template, labels = tiny.tokenizer(), Template(), ("good", "bad")
    encode_queries(tokenizer, template, ["a film"])
    fluency(Shots(tokenizer, template, labels, ((1,), (2,)), ("fine", "awful"), (0, 1), 2))
    assert tokenizer.backend_tokenizer.encode_special_tokens
