"""Several sentence encoders beside one another: which takes part, and which serves."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.worker import tiny
from tests.worker.cpt.selection.test_encoding import COSTS, ENCODER, run, shots
from worker.cpt.encoding.shots import Shots
from worker.cpt.model.sentence_encoder import SentenceEncoder
from worker.cpt.selection.encoder_part import ServingEncoder
from worker.cpt.selection.encoding import Encoding, taking_part
from worker.cpt.selection.folds import balanced_folds
from worker.cpt.turn import ALONE

BLANK = tiny.blank_encoder()
BOTH_COSTS = replace(COSTS, encoder_parameters=(500, 250))


def words(count: int = 40) -> Shots:
    """Texts of one length, whose label is what they say."""
    truth = tuple(number % 2 for number in range(count))
    return replace(
        shots(truth),
        texts=tuple(f"{('fine', 'dull')[label]} {number:03}" for number, label in enumerate(truth)),
        label_texts=(),
    )


def encoding(*encoders: SentenceEncoder, some: Shots | None = None, steps: int = 0) -> Encoding:
    return Encoding(encoders, some or words(), steps, 0)


def finished(running: Encoding, left: float = 1.0) -> Encoding:
    while not running.complete:
        running.step(BOTH_COSTS, left, lambda _: 0.0, ALONE)
    return running


def serving(running: Encoding, some: Shots | None = None) -> ServingEncoder:
    truth = (some or words()).truth
    folds = balanced_folds(range(len(truth)), truth, 0)
    return ServingEncoder.of(finished(running), torch.tensor(truth), 2, folds)


@pytest.mark.parametrize("steps", [0, 2])
def test_another_encoder_serves_where_held_out_examples_speak_for_it(steps: int) -> None:
    found = serving(encoding(BLANK, ENCODER, steps=steps))
    assert found.encoder is ENCODER
    assert (found.steps, found.part.change) == (0, None)
    assert found.frozen is found.part
    alone = serving(encoding(ENCODER))
    assert torch.equal(found.part.fit.predicted, alone.part.fit.predicted)


def test_first_encoder_serves_where_another_is_no_better() -> None:
    twin = replace(ENCODER, name="twin")
    assert serving(encoding(ENCODER, twin)).encoder is ENCODER
    assert serving(encoding(ENCODER, BLANK)).encoder is ENCODER


def test_fewer_rows_than_turn_a_tuned_encoder_down_choose_no_other() -> None:
    few = words(30)
    tuned = serving(encoding(BLANK, ENCODER, some=few, steps=2), few)
    frozen = serving(encoding(BLANK, ENCODER, some=few), few)
    assert (tuned.encoder, tuned.steps) == (BLANK, 2)
    assert frozen.encoder is ENCODER


@pytest.mark.parametrize(("examples", "expected"), [(15, 1), (16, 2), (2048, 2), (2049, 1)])
def test_other_encoders_take_part_where_examples_are_neither_few_nor_many(examples: int, expected: int) -> None:
    assert len(taking_part((ENCODER, BLANK), examples)) == expected
    assert taking_part((), examples) == ()


def test_other_encoders_are_dropped_where_no_time_is_left() -> None:
    running = encoding(BLANK, ENCODER)
    running.step(BOTH_COSTS, 1.0, lambda _: 0.0, ALONE)
    assert running.frozen.complete
    assert not running.complete
    finished(running, left=-1.0)
    assert running.others == ()
    assert serving(running).encoder is BLANK


def test_other_encoders_that_would_take_too_long_are_not_begun() -> None:
    running = encoding(BLANK, ENCODER)
    before = running.cost(BOTH_COSTS)
    while not running.complete:
        running.step(BOTH_COSTS, 1.0, lambda _: 2.0, ALONE)
    assert running.others == ()
    assert running.cost(BOTH_COSTS) < before


def test_time_for_what_is_left_of_the_vectors_by_another_encoder_is_enough() -> None:
    running = encoding(BLANK, ENCODER, some=words(300))
    while not running.frozen.complete:
        running.step(BOTH_COSTS, 1.0, lambda _: 0.0, ALONE)
    left = BOTH_COSTS.embedding(300, 1)
    while not running.complete:
        left -= running.step(BOTH_COSTS, left, lambda cost: cost, ALONE)
    assert running.others
    assert left == pytest.approx(0)


def test_vectors_by_each_encoder_count_in_what_the_work_costs() -> None:
    some = replace(words(), label_texts=("good", "bad"))
    both, one = encoding(ENCODER, BLANK, some=some), encoding(ENCODER, some=some)
    alone = replace(BOTH_COSTS, encoder_parameters=(500,))
    assert both.cost(BOTH_COSTS) == pytest.approx(1.5 * one.cost(alone))
    done = 0.0
    while not both.complete:
        done += both.step(BOTH_COSTS, 1.0, lambda _: 0.0, ALONE)
    assert done == pytest.approx(both.cost(BOTH_COSTS))


@pytest.mark.parametrize("done", range(7))
def test_state_goes_on_with_all_encoders_as_if_unbroken(done: int) -> None:
    some = words(300)
    first, second = encoding(BLANK, ENCODER, some=some), encoding(BLANK, ENCODER, some=some)
    for _ in range(done):
        first.step(BOTH_COSTS, 1.0, lambda _: 0.0, ALONE)
    second.load({name: tensor.clone() for name, tensor in first.tensors().items()})
    assert second.others[0].examples == first.others[0].examples
    expected = finished(encoding(BLANK, ENCODER, some=some)).others[0].of_examples()
    assert torch.equal(finished(second).others[0].of_examples(), expected)


def test_state_without_the_others_has_them_dropped() -> None:
    second = encoding(BLANK, ENCODER)
    second.load(run(encoding(BLANK)).tensors())
    assert second.complete
    assert second.others == ()


def test_state_of_another_encoder_beside_is_refused() -> None:
    state: dict[str, Any] = finished(encoding(BLANK, ENCODER)).tensors()
    state["other_vectors.0"] = torch.zeros(2, 40, 25)
    with pytest.raises(ValueError, match="something else"):
        encoding(BLANK, ENCODER).load(state)
