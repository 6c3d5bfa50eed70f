"""Encoders that are tuned in a search: what each has seen, and what becomes of them where time is short."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.worker import tiny
from worker.cpt.encoding.context import encode_labels
from worker.cpt.encoding.shots import Shots
from worker.cpt.encoding.template import Template
from worker.cpt.selection.costs import Costs
from worker.cpt.selection.encoder_part import FEWEST_AGAINST_TUNING, EncoderPart, tuned_part
from worker.cpt.selection.encoding import Encoding
from worker.cpt.selection.folds import FEWEST
from worker.cpt.selection.tuned_vectors import MOST_EXAMPLES, TunedVectors, tunable
from worker.cpt.selection.vectors import Vectors, nearest_mean
from worker.cpt.turn import ALONE

STEPS = 2
ENCODER = tiny.sentence_encoder()
COSTS = Costs(8, 10.0, 2.0, 3, 1000, (500,), 2, 0)


def shots(truth: tuple[int, ...] = (0, 1, 0, 1, 0, 1, 0, 1)) -> Shots:
    tokenizer, template = tiny.tokenizer(), Template()
    labels = ("good", "bad", *(f"label {number}" for number in range(2, max(truth) + 1)))
    return Shots(
        tokenizer=tokenizer,
        template=template,
        labels=labels,
        label_ids=tuple(map(tuple, encode_labels(tokenizer, template, labels))),
        texts=tuple(f"film {number}" for number in range(len(truth))),
        truth=truth,
        context=len(truth),
        label_texts=labels,
    )


def encoding(some: Shots | None = None, steps: int = STEPS) -> Encoding:
    return Encoding((ENCODER,), some or shots(), steps, 0)


def run(running: Encoding, left: float = 1.0, seconds: Callable[[float], float] = lambda _: 0.0) -> Encoding:
    while not running.complete:
        running.step(COSTS, left, seconds, ALONE)
    return running


def tuned(some: Shots | None = None) -> TunedVectors:
    found = run(encoding(some)).tuned
    assert found is not None
    return found


def test_every_example_is_in_one_fold_and_all_have_vectors_by_each_encoder() -> None:
    found = tuned()
    assert sorted(place for fold in found.folds for place in fold) == list(range(8))
    for number in range(len(found.folds) + 1):
        rows, names = found.of_fit(number)
        assert rows.shape == (2, 8, 24)
        assert names is not None
        assert names.shape == (2, 2, 24)
        torch.testing.assert_close(rows.norm(dim=2), torch.ones(2, 8))


def test_label_of_an_example_has_no_part_in_the_encoder_of_its_fold() -> None:
    one = tuned()
    fold = next(number for number, places in enumerate(one.folds) if 3 in places)
    others = tuple(1 - label if place == 3 else label for place, label in enumerate(shots().truth))
    running = encoding(shots(others))
    while not running.frozen.complete:
        running.step(COSTS, 1.0, lambda _: 0.0, ALONE)
    other = TunedVectors(ENCODER, shots(others), running.frozen, STEPS, 0)
    other.folds = one.folds
    other._fits = [replace(fit, change=None, vectors=[]) for fit in one._fits]
    while not other.complete:
        other.step(COSTS, ALONE)
    assert torch.equal(other.of_fit(fold)[0], one.of_fit(fold)[0])
    assert not torch.equal(other.of_fit(len(one.folds))[0], one.of_fit(len(one.folds))[0])


def test_vectors_that_serve_are_those_with_its_change() -> None:
    found = tuned()
    rows, _ = found.of_fit(len(found.folds))
    torch.testing.assert_close(rows, ENCODER.embed(shots().texts, change=found.change), rtol=1e-4, atol=1e-5)


def test_two_examples_of_each_label_are_enough() -> None:
    """What is known of a label takes part: without its fold a label has one example."""
    found = tuned(shots((0, 1, 0, 1)))
    assert len(found.folds) == 2
    assert all(fit.change is not None and bool(fit.change.any()) for fit in found._fits)


@pytest.mark.parametrize(
    ("truth", "named"), [((0, 1) * 9, True), ((0, 1) * 10, False), ((*range(10), *range(10)), True)]
)
def test_what_is_known_of_labels_takes_part_where_examples_are_few(truth: tuple[int, ...], named: bool) -> None:
    running = encoding(shots(truth))
    while not running.frozen.complete:
        running.step(COSTS, 1.0, lambda _: 0.0, ALONE)
    found = TunedVectors(ENCODER, shots(truth), running.frozen, STEPS, 0)
    while not found.complete:
        found.step(COSTS, ALONE)
    assert (found.of_fit(0)[1] is not None) == named


@pytest.mark.parametrize(("truth", "expected"), [((0, 0, 0, 1), False), ((0, 1), False), ((0, 0, 1, 1), True)])
def test_tuning_needs_two_examples_of_two_labels(truth: tuple[int, ...], expected: bool) -> None:
    assert tunable(ENCODER, truth) == expected
    found = run(encoding(shots(truth)))
    assert (found.tuned is not None) == expected
    assert found.steps == (STEPS if expected else 0)


@pytest.mark.parametrize(("count", "expected"), [(MOST_EXAMPLES, True), (MOST_EXAMPLES + 1, False)])
def test_encoder_is_not_tuned_on_many_examples(count: int, expected: bool) -> None:
    assert tunable(ENCODER, tuple(number % 2 for number in range(count))) == expected


def test_no_steps_are_no_tuning() -> None:
    found = run(encoding(steps=0))
    assert (found.tuned, found.steps) == (None, 0)
    assert found.frozen.examples == 8


def test_tuning_that_would_take_too_long_is_not_begun() -> None:
    taken = []

    def seconds(cost: float) -> float:
        taken.append(cost)
        return 2.0

    found = run(encoding(), left=1.0, seconds=seconds)
    assert taken == [COSTS.encoder_tuning(STEPS)]
    assert (found.tuned, found.steps) == (None, 0)


@pytest.mark.parametrize(("labels", "informed", "expected"), [(20, 1, False), (20, 0, True), (16, 1, True)])
def test_encoder_is_not_tuned_where_another_knows_many_labels_better(
    labels: int, informed: int, expected: bool
) -> None:
    """One of two encoders tells the labels apart, the other one knows nothing of them."""
    some = shots(tuple(number % labels for number in range(4 * labels)))
    running = Encoding((ENCODER, tiny.sentence_encoder(1)), some, STEPS, 0)
    costs = replace(COSTS, encoder_parameters=(500, 500))
    while not (running.frozen.complete and all(other.complete for other in running.others)):
        running.step(costs, 1.0, lambda _: 0.0, ALONE)
    size = running.frozen._found.shape[2]
    known = torch.eye(size)[list(some.truth)]
    noise = torch.randn(len(some), size, generator=torch.Generator().manual_seed(0))
    for place, vectors in enumerate((running.frozen, *running.others)):
        rows = known if place == informed else noise
        vectors._found[:, [labels + vectors._order.index(number) for number in range(len(some))]] = rows
    running.step(costs, 1.0, lambda _: 0.0, ALONE)
    assert (running.steps > 0) == expected


def test_nearest_mean_leaves_each_example_out() -> None:
    rows = torch.randn(12, 5, generator=torch.Generator().manual_seed(1))
    truth = torch.tensor([0, 1, 2] * 4)
    centred = functional.normalize(rows - rows.mean(0), dim=1)
    for number, found in enumerate(nearest_mean(rows, truth).tolist()):
        kept = [[n for n in range(12) if n != number and truth[n] == label] for label in range(3)]
        means = functional.normalize(torch.stack([centred[some].mean(0) for some in kept]), dim=1)
        assert found == (means @ centred[number]).argmax()


def test_tuning_that_turns_out_to_be_late_is_dropped() -> None:
    running = encoding()
    before = running.cost(COSTS)
    for _ in range(3):
        running.step(COSTS, 1.0, lambda _: 0.0, ALONE)
    run(running, left=-1.0)
    assert (running.tuned, running.steps) == (None, 0)
    assert running.frozen.examples == 8
    assert running.cost(COSTS) < before


@pytest.mark.parametrize("done", range(0, 13, 2))
def test_state_goes_on_as_if_unbroken(done: int) -> None:
    first = encoding()
    for _ in range(done):
        first.step(COSTS, 1.0, lambda _: 0.0, ALONE)
    state = {name: tensor.clone() for name, tensor in first.tensors().items()}
    second = encoding()
    second.load(state)
    found = run(second).tuned
    assert found is not None
    assert torch.equal(found.change, tuned().change)
    for number in range(len(found.folds) + 1):
        assert torch.equal(found.of_fit(number)[0], tuned().of_fit(number)[0])


def test_state_of_a_dropped_tuning_stays_dropped() -> None:
    first = run(encoding(), left=1.0, seconds=lambda _: 2.0)
    second = encoding()
    second.load(first.tensors())
    assert second.complete
    assert second.tuned is None


def without(name: str) -> Callable[[dict[str, Tensor]], object]:
    return lambda state: state.pop(name)


@pytest.mark.parametrize(
    "change",
    [
        without("encoder_tuning_left"),
        without("encoder.1.change"),
        without("encoder.3.vectors"),
        lambda state: state.update({"encoder.0.change": torch.zeros(2, 5)}),
        lambda state: state.update({"encoder.0.vectors": torch.zeros(2, 30, 24)}),
    ],
)
def test_state_of_something_else_is_refused(change: Callable[[dict[str, Any]], object]) -> None:
    state = run(encoding()).tensors()
    change(state)
    with pytest.raises((KeyError, ValueError)):
        encoding().load(state)


def test_state_with_a_tuned_encoder_is_refused_where_none_is_asked_for() -> None:
    with pytest.raises(ValueError, match="tuned"):
        encoding(steps=0).load(run(encoding()).tensors())


def test_part_of_tuned_encoders_predicts_each_fold_by_its_own() -> None:
    found = tuned()
    part = tuned_part(found, torch.tensor(shots().truth), 2)
    assert part.change is not None
    assert torch.equal(part.change, found.change)
    views = len(part.given.features)
    for number, fold in enumerate(found.folds):
        rows, names = found.of_fit(number)
        assert names is not None
        seen = [place for place in range(8) if place not in fold]
        given = replace(part.given, features=rows[:views, seen], names=names[:views], truth=part.given.truth[seen])
        expected = given.fit(part.fit.penalty).log_probabilities(rows[:views, fold])
        torch.testing.assert_close(part.fit.predicted[fold], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("count", "better"), [(32, True), (31, False)])
def test_encoder_as_it_is_serves_where_enough_rows_say_so(count: int, better: bool) -> None:
    truth = torch.arange(count) % 2
    good = torch.nn.functional.one_hot(truth, 2).double().mul(0.8).add(0.1)
    noise = 0.01 * torch.arange(count, dtype=torch.float64)[:, None] / count
    part = tuned_part(tuned(), torch.tensor(shots().truth), 2)
    given = replace(part.given, truth=truth)

    def predicting(probabilities: Tensor) -> EncoderPart:
        return EncoderPart(given, replace(part.fit, predicted=probabilities.log()))

    bad, fine = predicting(1 - good - noise), predicting(good - noise)
    assert (bad.unless(fine, FEWEST_AGAINST_TUNING) is fine) == better


@pytest.mark.parametrize("labels", [127, 255])
def test_vectors_are_cut_only_where_examples_are_enough_for_folds(labels: int) -> None:
    vectors = Vectors(ENCODER, shots(tuple(range(labels)) * 2))
    while vectors.examples < FEWEST:
        vectors.make(ALONE)
        vectors.cut()
        assert vectors.complete == (vectors.examples >= FEWEST)
