from dataclasses import replace
from typing import Any

import pytest

from app.contract.tuning import Example, Hyperparameters, ResolvedHyperparameters, TrialSettings, TuningSpec
from tests.submissions import EXAMPLES
from tests.worker.tiny import base_model, sentence_encoder
from worker.cpt.selection.budget import trial_cost
from worker.cpt.selection.costs import Costs
from worker.cpt.selection.prompts import prompt_tokens
from worker.cpt.selection.trials import Trial
from worker.cpt.tuning.loss import context_labels
from worker.cpt.tuning.projection import epsilon
from worker.jobs.defaults import automatic_seconds, resolve, search_settings
from worker.jobs.encoding import Encoded, encode
from worker.jobs.pricing import Pricing
from worker.models import LanguageModel


def encoded(base: LanguageModel, count: int = 4, labels: int = 2) -> Encoded:
    examples = tuple(Example(text=f"text {number}", label=f"label {number % labels}") for number in range(count))
    return encode(base, TuningSpec(examples=examples))


def resolved(base: LanguageModel, some: Encoded | None = None, **given: Any) -> ResolvedHyperparameters:
    return resolve(base, Hyperparameters(**given), some or encode(base, TuningSpec(examples=EXAMPLES)))


def test_what_is_left_to_the_reference_is_its_own(base: LanguageModel) -> None:
    values = resolved(base, method="cpt")
    assert (values.steps, values.batch_size, values.weighted_loss_type, values.loss_decay_factor) == (
        20,
        None,
        "none",
        1,
    )
    assert (values.projection_epsilon, values.projection_format_epsilon, values.epsilon_unit) == (0.1, 0.1, "reference")
    search = search_settings(base, values, encoded(base).shots)
    assert (search.prompts, search.folds, search.calibrated, search.heads, search.max_seconds) == (
        0,
        0,
        False,
        False,
        None,
    )
    assert [trial.steps for trial in search.trials] == [20]
    assert search.config["opt_projection_epsilon"] == 0.1


@pytest.mark.parametrize(("count", "weight"), [(15, 1.0), (16, 0.0)])
def test_auto_learns_the_labels_of_training_examples_alone_unless_they_are_few(
    base: LanguageModel, count: int, weight: float
) -> None:
    some = encoded(base, count)
    config = search_settings(base, resolved(base, some, method="auto"), some.shots).config
    context = some.shots.context_of(range(4))
    assert set(context_labels(context.tokens, context.config(**config)).weights) == {weight}


@pytest.mark.parametrize("method", ["auto", "cpt"])
def test_given_values_stay(base: LanguageModel, method: str) -> None:
    given: dict[str, Any] = {
        "steps": 7,
        "learning_rate": 0.5,
        "batch_size": 3,
        "seed": 9,
        "leave_one_out": False,
        "token_dropout": 0.3,
        "projection_epsilon": 0.7,
        "projection_format_epsilon": 0.9,
        "epsilon_unit": "embedding_norm",
        "weighted_loss_type": "decay",
        "loss_decay_factor": 0.0,
        "learning_rate_schedule": "cosine",
        "cross_validation": False,
        "early_stopping": False,
        "calibration": False,
        "head": True,
        "target_error": 0.1,
    }
    values = resolved(base, method=method, **given).model_dump()
    assert {name: values[name] for name in given} == given


def test_epsilons_relative_to_the_embeddings_give_a_share_of_their_norm(base: LanguageModel) -> None:
    values = resolved(base, projection_epsilon=0.25, projection_format_epsilon=0.5, epsilon_unit="embedding_norm")
    shots = encoded(base).shots
    search = search_settings(base, values, shots)
    assert search.tuning.epsilon_unit == base.embedding_norm
    radii = epsilon(shots.context_of(range(4)).config(**search.config), search.tuning.epsilon_unit)
    found = {round(radius / base.embedding_norm, 3) for radius in radii.tolist()}
    assert {0.25, 0.5} <= found
    assert max(found) == 0.5


def test_icl_tunes_nothing_whatever_is_given(base: LanguageModel) -> None:
    trials = (TrialSettings(steps=3, context_examples=4, examples=4, prompts=2),)
    values = resolved(base, method="icl", steps=50, calibration=True, trials=trials)
    assert (values.steps, values.calibration, [trial.steps for trial in values.trials]) == (0, False, [0])


def test_reference_with_folds_reads_what_is_held_out_untuned_too(base: LanguageModel) -> None:
    values = resolved(base, method="cpt", cross_validation=True)
    assert [trial.steps for trial in values.trials] == [0, 20]
    search = search_settings(base, values, encoded(base, 200).shots)
    assert (search.folds, search.preferred) == (3, None)
    chosen = search_settings(base, values.model_copy(update={"early_stopping": True}), encoded(base, 200).shots)
    assert chosen.preferred == 1


def test_as_many_prompts_are_tuned_as_a_trial_asks_for(base: LanguageModel) -> None:
    trial = TrialSettings(steps=3, context_examples=4, examples=12, prompts=3)
    some = encoded(base, 12)
    values = resolved(base, some, trials=(trial,))
    settings = search_settings(base, values, some.shots)
    assert settings.runs(Trial(**trial.model_dump())) == 3
    pricing = Pricing(base, some, values.model_dump())
    two = pricing.trial(trial.model_copy(update={"prompts": 2}))
    assert pricing.trial(trial) > 1.2 * two
    alone = resolved(base, some, trials=(trial.model_copy(update={"prompts": 1}),))
    assert search_settings(base, alone, some.shots).prompts == 2


def test_prompt_that_its_tokens_bound_is_priced_by_what_finds_room(base: LanguageModel) -> None:
    """However many such texts may stand in it."""
    examples = tuple(Example(text=f"{'text ' * 8}{number}", label=f"label {number % 2}") for number in range(40))
    some = encode(base, TuningSpec(examples=examples))
    assert 2 < prompt_tokens(some.shots, base.context_length) // len(some.shots.example(0)) < 12
    pricing = Pricing(base, some, resolved(base, some).model_dump())
    prices = [
        pricing.trial(TrialSettings(steps=6, context_examples=size, examples=40, prompts=2)) for size in (2, 12, 24)
    ]
    assert prices[0] < prices[1] == prices[2]


@pytest.mark.parametrize(("examples", "seconds"), [(4, 120), (200, 120), (385, 134.7), (10_000, 900)])
def test_seconds_grow_with_the_examples(examples: int, seconds: float) -> None:
    assert automatic_seconds(examples) == pytest.approx(seconds, abs=0.1)


@pytest.mark.parametrize(("labels", "expected"), [(2, 24), (5, 20), (8, 24), (12, 24), (77, 24)])
def test_prompts_hold_as_many_of_each_label_where_all_find_room(
    base: LanguageModel, labels: int, expected: int
) -> None:
    assert resolved(base, encoded(base, 2 * labels, labels)).context_examples == expected
    assert resolved(base, encoded(base, 2 * labels, labels), context_examples=3).context_examples == 3


def test_trials_begin_with_no_step_and_the_second_is_preferred_where_examples_are_few(base: LanguageModel) -> None:
    few, many = encoded(base, 20), encoded(base, 200)
    for some, preferred in ((few, 1), (many, 0)):
        values = resolved(base, some)
        assert [trial.steps for trial in values.trials] == [0, 6]
        assert search_settings(base, values, some.shots).preferred == preferred


def test_fewer_are_read_where_the_budget_wants_it(base: LanguageModel) -> None:
    some = encoded(base, 400)
    counts = [resolved(base, some, max_seconds=seconds).trials[0].examples for seconds in (0.001, 3.0, 86_400.0)]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (48, 400)


@pytest.mark.parametrize(("labels", "most"), [(2, True), (16, False)])
def test_where_examples_of_a_label_are_many_none_is_left_unread_for_tuning(
    base: LanguageModel, labels: int, most: bool
) -> None:
    some = encoded(base, 400, labels)
    whole = resolved(base, some, max_seconds=86_400.0)
    seconds = 2 * Pricing(base, some, whole.model_dump()).trial(whole.trials[0])
    assert (resolved(base, some, max_seconds=seconds).trials[0].examples == 400) == most


def test_of_many_labels_fewer_are_scored_before_fewer_are_read(base: LanguageModel) -> None:
    some = encoded(base, 200, 40)
    whole, tuned = resolved(base, some, max_seconds=86_400.0).trials
    assert (whole.examples, whole.scored_examples, tuned.steps) == (200, None, 6)
    pricing = Pricing(base, some, resolved(base, some).model_dump())
    found: list[tuple[int, int]] = []
    for share in (0.01, *(0.1 * step for step in range(1, 40))):
        seconds = share * sum(map(pricing.trial, (whole, tuned)))
        trial = resolved(base, some, max_seconds=seconds).trials[0]
        found.append((trial.examples, 200 if trial.scored_examples is None else trial.scored_examples))
    assert [read for read, _ in found] == sorted(read for read, _ in found)
    assert (found[0], found[-1]) == ((120, 0), (200, 200))
    assert {scored for read, scored in found if read == 200} == {0, 120, 150, 200}
    assert {scored for read, scored in found if read < 200} == {0}


def test_where_no_label_is_scored_one_prompt_serves_beside_an_encoder_and_none_is_tuned(base: LanguageModel) -> None:
    beside, some = base_model(0, sentence_encoder(0)), encoded(base, 200, 40)
    (trial,) = resolved(beside, some, max_seconds=0.001).trials
    assert (trial.scored_examples, trial.prompts, trial.steps) == (0, 1, 0)
    (unaided,) = resolved(base, some, max_seconds=0.001).trials
    assert (unaided.scored_examples, unaided.prompts, unaided.steps) == (0, 2, 0)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9, 1.1, 2.0])
def test_of_many_labels_half_of_what_is_read_is_scored_or_none(base: LanguageModel, share: float) -> None:
    some = encoded(base, 600, 20)
    pricing, whole = Pricing(base, some, resolved(base, some).model_dump()), resolved(base, some, max_seconds=86_400.0)
    trial = resolved(base, some, max_seconds=share * pricing.trial(whole.trials[0])).trials[0]
    assert trial.scored_examples in {None, 0} or trial.scored_examples * 2 >= trial.examples


def test_without_heads_all_that_is_read_is_priced_as_scored(base: LanguageModel) -> None:
    some = encoded(base, 200, 40)
    whole = TrialSettings(steps=0, context_examples=4, examples=200, prompts=2)
    values = resolved(base, some, head=False)
    pricing = Pricing(base, some, values.model_dump())
    first = whole.model_copy(update={"scored_examples": 0})
    assert pricing.trial(whole) == pricing.trial(first)
    settings = search_settings(base, values, some.shots)
    costs = Costs.of(base.model, (), some.shots, 0)
    prices = [trial_cost(costs, settings, some.shots, Trial(**one.model_dump())) for one in (whole, first)]
    assert prices[0] == prices[1]


def test_tuning_of_the_encoder_is_priced_also_where_another_may_make_it_needless(base: LanguageModel) -> None:
    several, some = base_model(0, sentence_encoder(0), sentence_encoder(1)), encoded(base, 80, 20)
    prices = [
        Pricing(several, some, resolved(several, some, encoder_steps=steps, max_seconds=86_400.0).model_dump())
        for steps in (0, 12)
    ]
    assert prices[0].encoding() < prices[1].encoding()
    assert prices[0].likely_encoding_within(60.0) == prices[1].likely_encoding_within(60.0) == prices[0].encoding()


def test_without_heads_all_that_is_read_is_scored(base: LanguageModel) -> None:
    some = encoded(base, 200, 40)
    trial = resolved(base, some, max_seconds=0.001, head=False).trials[0]
    assert (trial.examples, trial.scored_examples) == (120, None)


def test_examples_that_are_read_for_their_states_alone_cost_less(base: LanguageModel) -> None:
    some = encoded(base, 200, 40)
    pricing = Pricing(base, some, resolved(base, some).model_dump())
    whole = TrialSettings(steps=0, context_examples=4, examples=200, prompts=2)
    first = whole.model_copy(update={"scored_examples": 64})
    assert pricing.trial(whole.model_copy(update={"examples": 64})) < pricing.trial(first) < pricing.trial(whole)


def test_many_texts_without_a_label_cost_no_more_than_those_that_are_read(base: LanguageModel) -> None:
    def seconds(texts: int) -> float:
        some = replace(encoded(base), calibration_texts=tuple(f"text {number}" for number in range(texts)))
        values = resolved(base, some).model_dump()
        return Pricing(base, some, values).trial(TrialSettings(steps=6, context_examples=4, examples=4, prompts=2))

    assert seconds(0) < seconds(64) == seconds(10_000)


@pytest.mark.parametrize(("count", "prompts", "folds"), [(3, 1, 0), (4, 2, 3)])
def test_too_few_examples_for_folds_are_planned_with_one_prompt(
    base: LanguageModel, count: int, prompts: int, folds: int
) -> None:
    some = encoded(base, count)
    values = resolved(base, some)
    assert search_settings(base, values, some.shots).prompts == prompts
    reference = resolved(base, some, method="cpt", cross_validation=True)
    assert search_settings(base, reference, some.shots).folds == folds
    pricing = Pricing(base, some, values.model_dump())
    one, two = (TrialSettings(steps=6, context_examples=4, examples=4, prompts=each) for each in (1, 2))
    assert (pricing.trial(one) == pricing.trial(two)) == (prompts == 1)


def test_given_trials_are_run_whole(base: LanguageModel) -> None:
    trials = (TrialSettings(steps=3, context_examples=4, examples=4, prompts=2),)
    values = resolved(base, trials=trials, max_seconds=5.0)
    assert (values.trials, values.max_seconds) == (trials, None)


def test_encoder_takes_part_where_there_is_one(base: LanguageModel) -> None:
    assert not resolved(base).encoder
    assert not resolved(base, encoder=True).encoder
    with_encoder = base_model(0, sentence_encoder())
    assert resolved(with_encoder).encoder
    assert not resolved(with_encoder, encoder=False).encoder
    assert not resolved(with_encoder, method="cpt").encoder


def test_encoder_is_tuned_where_the_budget_bears_it(base: LanguageModel) -> None:
    with_encoder, some = base_model(0, sentence_encoder()), encoded(base, 40)
    assert resolved(base).encoder_steps == 0
    assert resolved(with_encoder, method="cpt").encoder_steps == 0
    assert resolved(with_encoder, encoder=False).encoder_steps == 0
    assert resolved(with_encoder, some, max_seconds=86_400.0).encoder_steps == 12
    assert resolved(with_encoder, some, max_seconds=0.001).encoder_steps == 0
    assert resolved(with_encoder, some, max_seconds=0.001, encoder_steps=7).encoder_steps == 7
    assert resolved(with_encoder, some, encoder_steps=0).encoder_steps == 0
    assert resolved(with_encoder, encoded(base, 3), encoder_steps=7).encoder_steps == 0
    assert resolved(with_encoder, encoded(base, 2049), max_seconds=86_400.0).encoder_steps == 0


def test_steps_of_the_encoder_are_priced(base: LanguageModel) -> None:
    with_encoder, some = base_model(0, sentence_encoder()), encoded(base, 40)

    def seconds(steps: int) -> float:
        return Pricing(with_encoder, some, resolved(with_encoder, some, encoder_steps=steps).model_dump()).encoding()

    assert seconds(0) < seconds(10) < seconds(20)
