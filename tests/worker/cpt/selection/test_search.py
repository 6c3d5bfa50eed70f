from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.worker import tiny
from worker.cpt.encoding.context import encode_labels
from worker.cpt.encoding.shots import Shots
from worker.cpt.encoding.template import Template
from worker.cpt.scoring.predict import Predictor
from worker.cpt.scoring.prefix import PrefixKV
from worker.cpt.scoring.scorer import Reading, read, score
from worker.cpt.scoring.trie import LabelTrie
from worker.cpt.scoring.views import VIEWS
from worker.cpt.selection.choice import prior_weights
from worker.cpt.selection.costs import Costs
from worker.cpt.selection.fits import Fits
from worker.cpt.selection.pace import TRIALS_SHARE
from worker.cpt.selection.result import HeldOut, SearchResult, _Conclusion
from worker.cpt.selection.search import Search, SearchSettings
from worker.cpt.selection.task import calibration_sample
from worker.cpt.selection.trials import Outcome, Trial
from worker.cpt.tuning.tuner import Tuner, TuningSettings
from worker.cpt.turn import ALONE

LABELS = ("good", "bad")
WORDS = (("fine", 0), ("awful", 1), ("great", 0), ("dull", 1), ("lovely", 0), ("poor", 1), ("nice", 0), ("weak", 1))
CONFIG = {"opt_projection_epsilon": 1.0, "opt_projection_format_epsilon": 1.0}
ENCODER = tiny.sentence_encoder()
REFERENCE = SearchSettings(TuningSettings(learning_rate=0.05), CONFIG, (Trial(3, 8, 8, 1),))
AUTO = SearchSettings(
    TuningSettings(learning_rate=0.05, leave_one_out=True),
    CONFIG,
    (Trial(0, 4, 8, 2), Trial(2, 4, 8, 2)),
    prompts=2,
    calibrated=True,
    heads=True,
    preferred=1,
)


@pytest.fixture
def model() -> Any:
    return tiny.causal_model()


def shots(count: int = 8) -> Shots:
    tokenizer, template = tiny.tokenizer(), Template()
    return Shots(
        tokenizer=tokenizer,
        template=template,
        labels=LABELS,
        label_ids=tuple(map(tuple, encode_labels(tokenizer, template, LABELS))),
        texts=tuple(f"a {WORDS[number % 8][0]} film {number // 8}" for number in range(count)),
        truth=tuple(WORDS[number % 8][1] for number in range(count)),
        context=count,
        label_texts=LABELS,
    )


class Clock:
    """Each look at it takes so many seconds."""

    def __init__(self, tick: float) -> None:
        self.now, self.tick = 0.0, tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


def search(model: Any, settings: SearchSettings, some: Shots | None = None, **given: Any) -> Search:
    encoders = (ENCODER,) if settings.prompts else ()
    return Search(model, encoders, some or shots(), settings, **given)


def run(running: Search) -> SearchResult:
    while not running.finished:
        running.step()
    return running.result()


def found(model: Any, settings: SearchSettings, some: Shots | None = None, **given: Any) -> SearchResult:
    return run(search(model, settings, some, **given))


def assert_same(one: SearchResult, other: SearchResult) -> None:
    for mine, theirs in zip(one.prompts, other.prompts, strict=True):
        assert mine.tokens == theirs.tokens
        assert torch.equal(mine.delta, theirs.delta)
    assert one.outcomes == other.outcomes
    assert (one.classifier is None) == (other.classifier is None)
    if one.classifier and other.classifier:
        for name, tensor in one.classifier.tensors().items():
            assert torch.equal(other.classifier.tensors()[name], tensor)
    if one.held_out and other.held_out:
        assert torch.equal(one.held_out.served, other.held_out.served)


def test_without_options_a_search_is_the_tuner(model: Any) -> None:
    one = found(model, REFERENCE)
    context = shots().context_of(range(8))
    training = shots().training_of(range(8), range(8))
    tuner = Tuner(model, context, training, context.config(**CONFIG), replace(REFERENCE.tuning, steps=3))
    losses = tuple(tuner.step() for _ in range(3))
    assert one.losses == losses
    assert torch.equal(one.prompts[0].embeds, tuner.embedding.tuned())
    assert (one.held_out, one.classifier) == (None, None)


def test_folds_of_the_reference_are_measured_and_do_not_serve(model: Any) -> None:
    one = found(model, replace(REFERENCE, folds=2))
    assert len(one.prompts) == 1
    assert torch.equal(one.prompts[0].delta, found(model, REFERENCE).prompts[0].delta)
    assert one.held_out
    assert sorted(one.held_out.numbers) == list(range(8))


def test_held_out_icl_is_the_plain_score_under_the_prompt_that_has_not_seen_it(model: Any) -> None:
    one = found(model, AUTO)
    assert one.held_out
    assert one.held_out.icl is not None
    running = search(model, AUTO)
    while not running.finished:
        running.step()
    run_of_first = running._runs[0]
    assert run_of_first
    for plan in run_of_first.plans:
        ids = shots().context_of(plan.context).tokens.ids
        prefix = PrefixKV.compute(model, model.get_input_embeddings()(torch.tensor(ids)).detach())
        expected = score(model, prefix, shots().label_ids, shots().queries_of(plan.unseen)).double().softmax(1)
        places = [one.held_out.numbers.index(number) for number in plan.unseen]
        torch.testing.assert_close(one.held_out.icl[places], expected, rtol=1e-4, atol=1e-5)


def test_where_no_trial_is_without_steps_nothing_is_known_of_the_plain_scores(model: Any) -> None:
    """The label scores under prompts that are tuned are not those."""
    assert (one := found(model, replace(AUTO, trials=AUTO.trials[1:], preferred=None)).held_out)
    assert one.icl is None
    both = found(model, replace(REFERENCE, folds=2, trials=(Trial(0, 8, 8, 1), *REFERENCE.trials)))
    assert both.held_out
    assert both.held_out.icl is not None
    assert not torch.allclose(both.held_out.icl, both.held_out.served)
    assert torch.equal(both.prompts[0].delta, found(model, REFERENCE).prompts[0].delta)


def test_label_of_an_example_has_no_part_in_what_is_read_of_it_while_held_out(model: Any) -> None:
    """Another text changes the prompts that have not seen it only where it is itself predicted."""
    usual = search(model, AUTO)
    run(usual)
    changed = usual._runs[1]
    assert changed
    number = changed.plans[0].unseen[0]
    texts = tuple("something else" if n == number else text for n, text in enumerate(shots().texts))
    settings = replace(AUTO)
    other = Search(model, (), replace(shots(), texts=texts), settings)
    plain = Search(model, (), shots(), settings)
    for one in (other, plain):
        while not one.finished:
            one.step()
    for trial in range(2):
        mine, theirs = other._runs[trial], plain._runs[trial]
        assert mine
        assert theirs
        prompt = next(p for p, plan in enumerate(theirs.plans) if number in plan.unseen)
        assert torch.equal(mine.records[prompt].delta, theirs.records[prompt].delta)


def test_served_classifier_is_that_of_all_prompts(model: Any) -> None:
    one = found(model, AUTO)
    assert one.classifier
    assert (len(one.prompts), len(one.classifier.state_heads), one.classifier.score_bias.shape) == (2, 2, (2, 2))
    readings = [Reading(torch.randn(3, 2), torch.randn(3, 3, 16)) for _ in range(2)]
    probabilities = one.classifier.probabilities(readings, torch.randn(2, 3, 24))
    torch.testing.assert_close(probabilities.sum(1), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("done", range(0, 12, 2))
def test_search_goes_on_from_any_state_as_if_unbroken(model: Any, done: int) -> None:
    texts = ("an unlabelled one", "and another")
    unbroken = found(model, AUTO, calibration_texts=texts)
    first = search(model, AUTO, calibration_texts=texts)
    for _ in range(done):
        if not first.finished:
            first.step()
    state = {name: tensor.clone() for name, tensor in first.state().items()}
    second = search(model, AUTO, calibration_texts=texts)
    second.load_state(state)
    assert second.fraction == first.fraction
    assert_same(run(second), unbroken)


@pytest.mark.parametrize("done", range(0, 16, 3))
def test_search_with_a_tuned_encoder_goes_on_from_any_state_as_if_unbroken(model: Any, done: int) -> None:
    settings = replace(AUTO, encoder_steps=2)
    first, second = search(model, settings), search(model, settings)
    for _ in range(done):
        first.step()
    second.load_state(first.state())
    assert second.fraction == first.fraction
    assert_same(run(second), found(model, settings))


def test_classifier_of_a_tuned_encoder_reads_it_with_its_change(model: Any) -> None:
    one = found(model, replace(AUTO, encoder_steps=2))
    assert one.encoder_steps == 2
    assert one.classifier
    assert one.classifier.encoder_change is not None
    prefixes = tuple(PrefixKV.compute(model, prompt.embeds) for prompt in one.prompts)
    predictor = Predictor(prefixes, shots().label_ids, one.classifier, one.encoder)
    plain = replace(predictor, classifier=replace(one.classifier, encoder_change=None))
    queries, texts = shots().queries_of(range(3)), shots().texts[:3]
    told = predictor.probabilities(model, queries, texts)
    assert not torch.allclose(told, plain.probabilities(model, queries, texts), atol=1e-6)
    readings = [
        read(model, prefix, [LabelTrie.build(shots().label_ids)] * 3, queries, views=VIEWS)
        for prefix in predictor.prefixes
    ]
    vectors = ENCODER.embed(texts, change=one.classifier.encoder_change)
    torch.testing.assert_close(told, one.classifier.probabilities(readings, vectors), rtol=1e-4, atol=1e-5)


def test_tuning_of_the_encoder_ends_with_half_of_the_budget(model: Any) -> None:
    """Each look at the clock takes a second, and each piece of work has one or two."""
    one = found(model, replace(AUTO, encoder_steps=50, max_seconds=60.0), clock=Clock(1.0))
    assert one.encoder_steps == 0
    assert one.classifier
    assert one.classifier.encoder_change is None
    assert found(model, replace(AUTO, encoder_steps=2, max_seconds=600.0), clock=Clock(1.0)).encoder_steps == 2


def test_time_before_the_first_piece_of_work_says_nothing_of_what_tuning_the_encoder_takes(model: Any) -> None:
    late = Clock(0.001)
    late.now = 10.0
    assert found(model, replace(AUTO, encoder_steps=2, max_seconds=120.0), clock=late).encoder_steps == 2


def test_first_piece_of_work_which_is_slow_says_little_of_what_tuning_the_encoder_takes(model: Any) -> None:
    looks = iter([0.0, 1.0])  # and then a millisecond each
    clock = Clock(0.001)
    clock.now = 1.0
    assert (
        found(
            model, replace(AUTO, encoder_steps=20, max_seconds=30.0), clock=lambda: next(looks, None) or clock()
        ).encoder_steps
        == 20
    )


@pytest.mark.parametrize("count", [8, 13])
def test_measuring_folds_of_the_reference_takes_nothing_from_what_serves(model: Any, count: int) -> None:
    measured = replace(REFERENCE, trials=(Trial(1, 8, count, 1),), folds=3, calibrated=True, heads=True)
    (trial,) = found(model, measured, shots(count)).outcomes
    assert trial.examples == count
    held_out = found(model, measured, shots(count)).held_out
    assert held_out
    assert len(held_out.numbers) == count


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("statuses"),
        lambda state: state.update(statuses=torch.tensor([1, 1, 1])),
        lambda state: state.update(statuses=torch.tensor([1, 1])),
        lambda state: state.update(vectors=torch.zeros(2, 5)),
        lambda state: state.pop("trials.0.0.delta"),
        lambda state: state.pop("tuner.delta"),
        lambda state: state.update(statuses=torch.tensor(1)),
        lambda state: state.update(pace=torch.zeros(2)),
        lambda state: state.update({"trials.0.0.closed": torch.zeros(2)}),
        lambda state: state.update({"tuner.delta": torch.zeros(1, 1)}),
    ],
)
def test_state_of_something_else_is_refused(model: Any, change: Change) -> None:
    running = search(model, AUTO)
    for _ in range(4):
        running.step()
    state = running.state()
    change(state)
    other = search(model, AUTO)
    with pytest.raises(ValueError, match="does not belong"):
        other.load_state(state)
    assert_same(run(other), found(model, AUTO))


@pytest.mark.parametrize(("name", "other"), [("numbers", torch.tensor([1, 0])), ("delta", torch.zeros(2, 16))])
def test_state_of_prompts_of_other_examples_is_refused(model: Any, name: str, other: torch.Tensor) -> None:
    running = search(model, AUTO)
    while not running._runs or not running._runs[0] or not running._runs[0].records[0].closed:
        running.step()
    state = running.state()
    state[f"trials.0.0.{name}"] = torch.cat([other, state[f"trials.0.0.{name}"][2:]]) if name == "numbers" else other
    with pytest.raises(ValueError, match="does not belong"):
        search(model, AUTO).load_state(state)


def test_vectors_end_where_there_is_no_time_for_the_fits_to_more(model: Any) -> None:
    """The clock stands still: it is the fits alone that find no time."""

    def measured(seconds: float, labels: int) -> int:
        running = search(model, replace(AUTO, max_seconds=seconds), several_labels(labels, 600))
        while not running.encoding.complete:
            running.step()
        return running.encoding.frozen.examples

    assert measured(600.0, labels=2) == measured(0.2, labels=2) == 600
    assert 0 < measured(0.2, labels=60) < 600


def test_fits_to_an_encoder_that_is_dropped_take_no_vectors_from_the_first(model: Any) -> None:
    some, encoders = several_labels(20, 300), (ENCODER, tiny.sentence_encoder(seed=1))
    one = Fits.of(model, encoders, 20, heads=True).on_vectors(300, 1)
    running = Search(model, encoders, some, replace(AUTO, max_seconds=3 * one))
    while not running.encoding.complete:
        running.step()
    assert (running.encoding.frozen.examples, running.encoding.others) == (300, ())


def test_more_examples_whose_folds_are_fewer_need_no_more_time(model: Any) -> None:
    """Of more than 2,048 there are two folds: the vectors of fewer are not where the search ends."""
    fits = Fits.of(model, (ENCODER,), 2, heads=True)
    assert fits.on_vectors(2300, 1) < fits.on_vectors(2048, 1)
    running = search(model, replace(AUTO, max_seconds=2.1 * fits.on_vectors(2300, 1)), shots(2300))
    while not running.encoding.complete:
        running.step()
    assert running.encoding.frozen.examples == 2300


def test_trials_that_hold_out_no_example_in_common_end_without_figures(model: Any) -> None:
    given = shots(16)
    uneven = replace(given, truth=(0,) * 3 + (1,) * 13)
    trials = Trial(0, 4, 16, 1), Trial(1, 4, 1, 1)
    every = [replace(AUTO, trials=trials, tuning=replace(AUTO.tuning, seed=seed)) for seed in range(6)]
    assert None in [found(model, settings, uneven).held_out for settings in every]


def test_trial_is_dropped_where_there_is_no_time_for_the_fits_to_what_is_read_in_it(model: Any) -> None:
    def outcomes(seconds: float) -> list[str]:
        settings = replace(AUTO, trials=(Trial(0, 4, 40, 2), Trial(2, 4, 40, 2)), max_seconds=seconds)
        return [outcome.status for outcome in found(model, settings, shots(40)).outcomes]

    assert outcomes(600.0) == ["done", "done"]
    assert outcomes(0.0005) == ["done", "dropped"]


def test_late_search_drops_what_is_left_to_try_but_never_the_result(model: Any) -> None:
    one = found(model, replace(AUTO, max_seconds=1.0), clock=Clock(10.0))
    assert [outcome.status for outcome in one.outcomes] == ["done", "dropped"]
    assert one.trial.steps == 0
    assert one.classifier


def test_heads_on_states_learn_from_what_is_known_of_the_labels(model: Any) -> None:
    one = found(model, AUTO).classifier
    other = found(model, AUTO, replace(shots(), label_texts=("nice fine", "weak poor"))).classifier
    assert one is not None
    assert other is not None
    assert torch.equal(one.score_bias, other.score_bias)
    assert not torch.equal(one.state_heads[0].weight, other.state_heads[0].weight)


def test_long_texts_without_labels_are_cut_to_what_finds_room(model: Any) -> None:
    running = search(model, AUTO, calibration_texts=["word " * 2000])
    run(running)
    longest = max(map(len, shots().queries_of(range(8))))
    (query,) = running._task.calibration
    assert len(query) <= longest
    assert list(query[-4:]) == shots().queries_of([0])[0][-4:]


def test_with_nothing_held_out_the_parts_weigh_what_they_do_where_rows_are_few(model: Any) -> None:
    """However many examples there are: nothing is fitted to them."""
    settings = replace(AUTO, trials=(Trial(0, 4, 40, 1),), prompts=1, encoder_steps=2, preferred=None)
    one = found(model, settings, shots(40))
    assert one.classifier
    assert one.encoder_steps == 2
    expected = prior_weights(shots(40), states=True, encoder=True, tuned=True, rows=0)
    torch.testing.assert_close(one.classifier.mixture.weights.double(), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(("count", "named"), [(15, False), (40, True)])
def test_suspects_are_named_where_enough_examples_are_held_out(model: Any, count: int, named: bool) -> None:
    """One label is wrong for sure, as the predictions stand."""
    predicted = torch.tensor([1 - shots(count).truth[0], *shots(count).truth[1:]])
    sure = torch.full((count, 2), 1e-9, dtype=torch.float64).scatter(1, predicted[:, None], 1 - 1e-9)
    running = search(model, AUTO, shots(count))
    conclusion = _Conclusion(running._settings, running._task, running.encoding, ALONE)
    held_out = HeldOut(tuple(range(count)), sure, sure)
    assert bool(conclusion._suspects(held_out)) == named


def test_suspects_are_looked_for_among_examples_that_the_encoder_alone_has_predicted(model: Any) -> None:
    running = search(model, AUTO, shots(40))
    while not running.encoding.complete:
        running.step()
    conclusion = _Conclusion(running._settings, running._task, running.encoding, ALONE)
    truth = torch.tensor(shots(40).truth[:20])
    right = torch.full((20, 2), 0.4, dtype=torch.float64).scatter(1, truth[:, None], 0.6)
    sure = torch.tensor([[1e-9, 1 - 1e-9]], dtype=torch.float64).repeat(40, 1)
    assert conclusion._encoder
    fit = replace(conclusion._encoder.part.fit, predicted=sure.log())
    conclusion._encoder = replace(conclusion._encoder, part=replace(conclusion._encoder.part, fit=fit))
    suspects = conclusion._suspects(HeldOut(tuple(range(20)), right, right))
    assert suspects
    for one in suspects:
        assert one.number >= 20
        assert shots(40).truth[one.number] == 0
        assert torch.allclose(one.predicted, sure[0])


def test_what_is_known_of_a_label_takes_no_more_room_than_the_longest_example() -> None:
    given = shots()
    named = replace(given, label_texts=("good " * 100, "bad"))
    assert max(map(len, named.names_of([0, 1]))) <= max(map(len, given.queries_of(range(len(given)))))


def test_tokens_of_what_is_known_of_a_label_are_counted_not_its_bytes() -> None:
    """Decomposed letters have more bytes than tokens here."""
    given = replace(shots(2), texts=("e\u0301" * 40, "e\u0301"), label_texts=("good " * 100, "bad"))
    assert max(map(len, given.names_of([0, 1]))) <= max(map(len, given.queries_of(range(len(given)))))


def test_with_many_labels_a_piece_of_reading_holds_few_texts(model: Any) -> None:
    """A search is late by a piece of work, whose cost must not grow with the labels."""
    few = Costs.of(model, (), shots(12), 0)
    assert few.texts_at_once > 4
    assert 1 <= replace(few, trie=500).texts_at_once <= 2


def several_labels(labels: int = 6, count: int = 24) -> Shots:
    names = tuple(f"label {number}" for number in range(labels))
    ids = tuple(map(tuple, encode_labels(tiny.tokenizer(), Template(), names)))
    truth = tuple(number % labels for number in range(count))
    return replace(shots(count), labels=names, label_ids=ids, truth=truth, label_texts=names)


SOME_SCORED = replace(AUTO, trials=(Trial(1, 6, 24, 2, 8),))
NONE_SCORED = replace(AUTO, trials=(Trial(1, 6, 24, 2, 0),))


def test_heads_learn_from_all_that_is_read_and_label_scores_from_what_is_scored(model: Any) -> None:
    some = several_labels()
    running = search(model, SOME_SCORED, some)
    one = run(running)
    assert one.held_out
    assert one.classifier
    assert len(one.held_out.numbers) == 8
    (first,) = running._runs
    assert first
    truth = torch.tensor(some.truth)
    for record, head, bias in zip(first.records, one.classifier.state_heads, one.classifier.score_bias, strict=True):
        states = torch.cat(record.states, 1)
        assert (len(record.numbers), record.scored, states.shape[1]) == (24, 8, 24)
        torch.testing.assert_close(head.center, states.double().mean(1).float())
        scores, labels = torch.cat(record.scores).double().log_softmax(1), truth[record.numbers[:8]]
        weights = 1 / labels.bincount(minlength=6)[labels].double()
        torch.testing.assert_close(bias, ((weights[:, None] * scores).sum(0) / weights.sum()).float())


def numbers_read(model: Any, trial: Trial, some: Shots, **given: Any) -> list[list[int]]:
    running = search(model, replace(AUTO, trials=(trial,), **given), some)
    while not running.finished:
        running.step()
    (first,) = running._runs
    assert first
    return [record.numbers for record in first.records]


def test_many_labels_are_read_in_an_order_of_each_prompt_s_own(model: Any) -> None:
    """Those of the labels in the prompts alone would be predicted too well."""
    some = several_labels(20, 80)
    drawn = [{some.truth[number] for number in one[:8]} for one in numbers_read(model, Trial(0, 6, 80, 2, 8), some)]
    assert len({frozenset(labels) for labels in [*drawn, {0, 1, 2, 3}]}) == 3


@pytest.mark.parametrize("trial", [Trial(0, 6, 16, 2, 16), Trial(0, 6, 24, 2, 16), Trial(0, 6, 999, 2, 0)])
def test_what_is_read_of_many_labels_is_the_beginning_of_the_same_order(model: Any, trial: Trial) -> None:
    """So a trial that was cut is repeated, and trials of a search hold the same rows out."""
    some = several_labels(20, 80)
    whole = numbers_read(model, Trial(0, 6, 80, 2), some)
    for one, every in zip(numbers_read(model, trial, some), whole, strict=True):
        assert one == every[: len(one)]


@pytest.mark.parametrize(
    ("trial", "held_out"), [(Trial(0, 6, 24, 1), 18), (Trial(0, 18, 24, 1), 24), (Trial(1, 6, 24, 1), 12)]
)
def test_lone_prompt_holds_out_what_does_not_stand_in_it_unless_it_is_tuned(
    model: Any, trial: Trial, held_out: int
) -> None:
    one = found(model, replace(AUTO, trials=(trial,)), several_labels())
    assert one.held_out
    assert len(one.held_out.numbers) == held_out


def test_prompt_that_is_cut_early_is_left_out(model: Any) -> None:
    """All prompts would have as few examples as it has."""
    settings = replace(AUTO, trials=(Trial(0, 4, 100, 2),), max_seconds=1.0)

    def trial_of(late_from: int) -> Trial:
        running = search(model, settings, shots(100), clock=lambda: 0.0)
        while not running.finished:
            (one,) = running._runs or [None]
            if one is not None and len(one.records) == 2 and len(one.records[1].numbers) >= late_from:
                running._pace.clock = lambda: 1.0
            running.step()
        (done,) = running._runs
        assert done
        assert len({len(record.numbers) for record in done.records}) == 1
        return replace(done.trial, examples=len(done.records[0].numbers))

    early, late = trial_of(1), trial_of(50)
    assert (early.prompts, early.examples) == (1, 100)
    assert late.prompts == 2
    assert 50 <= late.examples < 100


def test_where_nothing_is_scored_the_heads_alone_predict_and_all_that_is_read_is_held_out(model: Any) -> None:
    some = several_labels()
    running = search(model, NONE_SCORED, some, calibration_texts=["some film"])
    one = run(running)
    (first,) = running._runs
    assert first
    assert [(len(record.numbers), record.scored, record.calibration) for record in first.records] == [(24, 0, [])] * 2
    assert first.held_out() is None
    assert one.held_out
    assert one.held_out.icl is None
    assert sorted(one.held_out.numbers) == list(range(24))
    assert one.classifier
    assert one.classifier.shortlist == 0
    assert one.classifier.mixture.weights[0] == 0
    prefixes = tuple(PrefixKV.compute(model, prompt.embeds) for prompt in one.prompts)
    predictor = Predictor(prefixes, (), one.classifier, ENCODER)  # scores that weigh nothing are never computed
    found = [
        predictor.probabilities(model, some.queries_of([0, 1]), some.texts[:2], exact=exact) for exact in (False, True)
    ]
    assert torch.equal(found[0], found[1])


def test_without_heads_all_that_is_read_is_scored_whatever_is_asked_for(model: Any) -> None:
    one = found(model, replace(NONE_SCORED, heads=False), several_labels())
    assert one.held_out
    assert len(one.held_out.numbers) == 24
    assert one.classifier
    assert one.classifier.mixture.weights[0] > 0


@pytest.mark.parametrize(("settings", "done"), [(SOME_SCORED, 3), (SOME_SCORED, 7), (NONE_SCORED, 4), (NONE_SCORED, 6)])
def test_search_that_scores_some_or_none_goes_on_from_any_state_as_if_unbroken(
    model: Any, settings: SearchSettings, done: int
) -> None:
    some = several_labels()
    first = search(model, settings, some)
    for _ in range(done):
        first.step()
    assert not first.finished
    second = search(model, settings, some)
    second.load_state(first.state())
    assert_same(run(second), found(model, settings, some))


def test_trial_takes_the_steps_that_there_is_time_for(model: Any) -> None:
    """And goes on with as many; what serves then is what a trial of so many steps gives."""
    trials = (Trial(0, 4, 8, 2), Trial(30, 4, 8, 2))
    measured = search(model, replace(AUTO, trials=trials))
    while not measured.statuses:
        measured.step()
    rate = measured._budget.cost(replace(trials[1], steps=20)) / measured._pace.done
    clock = Clock(0.0)
    settings = replace(AUTO, trials=trials, max_seconds=100.0)
    running = search(model, settings, clock=clock)
    running.step()  # sentence vectors, which have a bound of their own
    clock.now = 0.999 * TRIALS_SHARE * 100 / (1 + rate)  # 20 steps fit, 21 do not
    while not running.statuses:
        running.step()
    running.step()
    clock.now = 0.0
    resumed = search(model, settings, clock=clock)
    resumed.load_state(running.state())
    one = run(resumed)
    assert one.trial == replace(trials[1], steps=20)
    assert_same(one, run(running))
    assert_same(one, found(model, replace(AUTO, trials=(trials[0], one.trial))))


class SlowSteps:
    """A turn in which a step of tuning takes so many seconds of a clock, and all else a thousandth of one or more."""

    def __init__(self, clock: Clock, seconds: float, reading: float = 0.001) -> None:
        self.clock, self.seconds, self.reading, self.losses = clock, seconds, reading, 0

    def run(self, running: Search) -> SearchResult:
        while not running.finished:
            self.step(running)
        return running.result()

    def step(self, running: Search) -> None:
        self._due = self.seconds
        self.losses += running.step(self) is not None
        self.clock.now += self.reading

    def offer(self, done: float | None = None, /) -> None:
        if done is not None:  # steps of tuning alone say how far they are
            self.clock.now, self._due = self.clock.now + self._due, 0.0


def test_trial_whose_steps_turn_out_slow_takes_fewer_of_them(model: Any) -> None:
    """And what serves then is what a trial of so many steps gives."""
    settings = replace(AUTO, trials=(Trial(0, 4, 8, 2), Trial(8, 4, 8, 2)), max_seconds=100.0)
    clock = Clock(0.0)
    one = SlowSteps(clock, 6.2).run(search(model, settings, clock=clock))  # 85 s bear 6 steps of two prompts, not 7
    assert [(outcome.status, outcome.trial.steps) for outcome in one.outcomes] == [("done", 0), ("done", 6)]
    again = replace(settings, trials=(Trial(0, 4, 8, 2), Trial(6, 4, 8, 2)), max_seconds=None)
    assert_same(one, found(model, again))


def test_trial_whose_steps_turn_out_too_slow_is_dropped_as_soon_as_two_say_so(model: Any) -> None:
    settings = replace(AUTO, trials=(Trial(0, 4, 8, 2), Trial(8, 4, 8, 2)), max_seconds=100.0)
    clock = Clock(0.0)
    slow = SlowSteps(clock, 15.0)
    one = slow.run(search(model, settings, clock=clock))
    assert [outcome.status for outcome in one.outcomes] == ["done", "dropped"]
    assert slow.losses == 2


def test_steps_of_a_rate_that_falls_stay_as_many(model: Any) -> None:
    settings = replace(AUTO, trials=(Trial(0, 4, 8, 2), Trial(8, 4, 8, 2)), max_seconds=100.0)
    settings = replace(settings, tuning=replace(settings.tuning, cosine=True))
    clock = Clock(0.0)
    slow = SlowSteps(clock, 5.5)  # 85 s bear 7 steps of two prompts, not 8
    assert [outcome.status for outcome in slow.run(search(model, settings, clock=clock)).outcomes] == [
        "done",
        "dropped",
    ]
    assert slow.losses == 2
    clock = Clock(0.0)
    one = SlowSteps(clock, 5.2).run(search(model, settings, clock=clock))
    assert [(outcome.status, outcome.trial.steps) for outcome in one.outcomes] == [("done", 0), ("done", 8)]


def test_trial_keeps_half_of_its_steps_at_least_however_often_it_is_cut(model: Any) -> None:
    """Before it begins, by the rate of reading, and then by that of its steps."""
    settings = replace(AUTO, trials=(Trial(0, 4, 8, 2), Trial(6, 4, 8, 2)), max_seconds=100.0)
    found = set()
    for reading in (0.5, 2.0, 3.0, 4.0):
        for seconds in (4.0, 8.0, 12.0, 16.0):
            clock = Clock(0.0)
            running = search(model, settings, clock=clock)
            slow = SlowSteps(clock, seconds, reading)
            while not running.finished:
                slow.step(running)
            found.add((running.statuses[1], running._trials[1].steps))
    assert {steps for status, steps in found if status == "done"} <= {3, 4, 5, 6}
    assert len(found) > 2


@pytest.mark.parametrize("seconds", [2.0, 4.0, 6.0])
def test_slow_search_goes_on_from_any_state_as_if_unbroken(model: Any, seconds: float) -> None:
    """What its steps and its reading took is part of the state."""
    settings = replace(AUTO, trials=(Trial(0, 4, 40, 2), Trial(6, 4, 40, 2)), max_seconds=100.0)

    def outcomes(broken_after: int | None) -> tuple[Outcome, ...]:
        clock = Clock(0.0)
        slow, running = SlowSteps(clock, seconds, 1.0), search(model, settings, clock=clock)
        while not running.finished:
            before = slow.losses
            slow.step(running)
            if broken_after == slow.losses != before:
                state = running.state()
                running = search(model, settings, clock=clock)
                running.load_state(state)
        return running.result().outcomes

    unbroken = outcomes(None)
    for steps in (1, 2, 3, 5):
        assert outcomes(steps) == unbroken


def test_first_step_of_a_process_is_slow_and_drops_no_trial(model: Any) -> None:
    settings = replace(AUTO, trials=(Trial(0, 4, 8, 2), Trial(6, 4, 8, 2)), max_seconds=150.0)
    clock = Clock(0.0)
    slow, running = SlowSteps(clock, 30.0), search(model, settings, clock=clock)
    while not slow.losses:
        slow.step(running)
    state = running.state()
    running = search(model, settings, clock=clock)
    running.load_state(state)
    slow.step(running)
    slow.seconds = 2.0
    assert [outcome.status for outcome in slow.run(running).outcomes] == ["done", "done"]


def test_trial_that_turns_out_too_slow_is_dropped_in_its_midst(model: Any) -> None:
    many = replace(AUTO, trials=(Trial(0, 4, 8, 2), Trial(50, 4, 8, 2)), max_seconds=100.0)
    clock = Clock(0.0)
    running = search(model, many, clock=clock)
    while len(running._statuses) < 1:
        running.step()
    running.step()
    clock.now = 99.0
    assert [outcome.status for outcome in run(running).outcomes] == ["done", "dropped"]


@pytest.mark.parametrize(("late_from", "expected"), [(1, None), (2, 2), (3, 3)])
def test_trial_ends_with_the_prompts_that_there_was_time_for(model: Any, late_from: int, expected: int | None) -> None:
    """What serves then is what a trial of so many prompts gives."""
    settings = replace(AUTO, prompts=3, trials=(Trial(0, 4, 12, 3), Trial(2, 4, 12, 3)))
    clock = Clock(0.0)
    running = search(model, replace(settings, max_seconds=100.0), shots(12), clock=clock)
    while not running.finished and sum(len(one.records) for one in running._runs[1:] if one) <= late_from:
        running.step()
    clock.now = 99.0
    resumed = search(model, replace(settings, max_seconds=100.0), shots(12), clock=clock)
    resumed.load_state(running.state())
    one = run(resumed)
    assert_same(one, run(running))
    if expected is None:
        assert one.outcomes[1].status == "dropped"
        return
    assert one.trial == Trial(2, 4, 12, expected)
    assert len(one.prompts) == expected
    again = found(model, replace(settings, trials=(Trial(0, 4, 12, 3), one.trial)), shots(12))
    assert_same(one, again)


def test_first_trial_is_cut_short_and_the_same_trials_give_the_same_bits(model: Any) -> None:
    settings = replace(AUTO, trials=(Trial(0, 4, 100, 2),), max_seconds=1.0)
    clock = Clock(0.0)
    running = search(model, settings, shots(100), clock=clock)
    while not running._runs or not running._runs[0] or not running._runs[0].records[0].numbers:
        running.step()
    clock.now = 99.0
    cut = run(running)
    (outcome,) = cut.outcomes
    assert outcome.trial.prompts == 1
    assert 0 < outcome.examples < 100
    (first,) = running._runs
    assert first
    inside, read = set(first.plans[0].context), first.records[0].numbers
    assert cut.held_out
    assert sorted(cut.held_out.numbers) == sorted(set(read) - inside)
    again = found(model, replace(settings, trials=(Trial(0, 4, outcome.examples, 1),), max_seconds=None), shots(100))
    assert_same(replace(cut, outcomes=()), replace(again, outcomes=()))


@pytest.mark.parametrize("pieces", [2, 3, 7, 9])
def test_trial_that_is_cut_anywhere_gives_the_same_bits_again_also_with_texts_without_a_label(
    model: Any, pieces: int
) -> None:
    texts = tuple(f"what about {number}" for number in range(40))
    settings = replace(AUTO, trials=(Trial(0, 4, 40, 2),), max_seconds=1.0)
    clock = Clock(0.0)
    running = search(model, settings, shots(40), clock=clock, calibration_texts=texts)
    for _ in range(pieces):
        running.step()
    clock.now = 99.0
    cut = run(running)
    (outcome,) = cut.outcomes
    trial = replace(outcome.trial, examples=outcome.examples)
    whole = replace(settings, trials=(trial,), max_seconds=None)
    again = found(model, whole, shots(40), calibration_texts=texts)
    assert_same(replace(cut, outcomes=()), replace(again, outcomes=()))


def test_bias_levels_what_a_prompt_says_of_examples_of_all_labels(model: Any) -> None:
    """With every own copy hidden, the mean over the labels' means is exactly level."""
    some = shots(6)
    settings = replace(REFERENCE, calibrated=True, trials=(Trial(3, 6, 6, 1),))
    result = found(model, settings, some)
    assert result.classifier
    (prompt,) = result.prompts
    prefix = PrefixKV.compute(model, prompt.embeds)
    hidden = []
    for number in range(6):
        first, end = prompt.tokens.span(number)
        marks = torch.zeros(len(prompt.tokens), dtype=torch.bool)
        marks[first:end] = True
        hidden.append(marks)
    scores = score(model, prefix, some.label_ids, some.queries_of(range(6)), hidden=hidden).log_softmax(1)
    torch.testing.assert_close(result.classifier.score_bias[0], scores.mean(0), rtol=1e-4, atol=1e-4)


def test_texts_without_a_label_move_the_bias(model: Any) -> None:
    texts = tuple(f"what about {number}" for number in range(40))
    plain, moved = (found(model, AUTO, calibration_texts=some).classifier for some in ((), texts))
    assert plain
    assert moved
    assert not torch.equal(plain.score_bias, moved.score_bias)


def test_of_many_texts_without_a_label_some_are_read_from_all_over_them(model: Any) -> None:
    texts = [f"what about {number}" for number in range(1000)]
    some = calibration_sample(texts)
    assert (len(set(some)), some[0]) == (64, texts[0])
    assert some[-1] in texts[-20:]
    assert calibration_sample(texts[:3]) == tuple(texts[:3])
    assert calibration_sample(()) == ()
    moved, same = (found(model, AUTO, calibration_texts=given).classifier for given in (texts, some))
    assert moved
    assert same
    assert torch.equal(moved.score_bias, same.score_bias)


def test_progress_grows_to_its_end(model: Any) -> None:
    running = search(model, AUTO)
    seen = [running.fraction]
    while not running.finished:
        running.step()
        seen.append(running.fraction)
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0.0, 1.0)
    assert running.total_steps == 2 * 2
