from typing import Any

import pytest

from app.contract.tuning import Example, Hyperparameters, ResolvedHyperparameters, Template, TuningSpec
from tests.submissions import EXAMPLES
from tests.worker.tiny import CONTEXT_LENGTH
from worker.cpt.selection.search import held_out_folds
from worker.cpt.tuning.projection import epsilon
from worker.jobs.planning import MAX_LABEL_TOKENS, Unplannable, encode, plan, resolve, search_settings
from worker.models import LanguageModel

BARE = Template(input="{text}", separator="=", output="{label}", between=";")


def spec(*pairs: tuple[str, str], **fields: Any) -> TuningSpec:
    examples = tuple(Example(text=text, label=label) for text, label in pairs)
    return TuningSpec(examples=examples, **{"template": BARE, **fields})


def failure(base: LanguageModel, given: TuningSpec) -> Unplannable:
    with pytest.raises(Unplannable) as caught:
        plan(base, given)
    return caught.value


def test_counts_are_those_of_the_written_examples(base: LanguageModel) -> None:
    planned = plan(base, spec(("ab", "x"), ("cdef", "y"), training_examples=(Example(text="g", label="x"),)))
    assert planned.context_tokens == len("ab=x;cdef=y")
    assert planned.longest_example_tokens == len(";cdef=y")
    assert planned.training_examples == 3
    assert planned.context_limit == CONTEXT_LENGTH
    assert planned.estimated_seconds > 0


def test_context_that_just_fits_is_taken_and_one_token_more_is_refused(base: LanguageModel) -> None:
    longest = (CONTEXT_LENGTH - len("=x;bb=y;=x")) // 2
    fits = ("a" * longest, "x")
    assert plan(base, spec(fits, ("bb", "y"))).context_tokens + longest + len(";=x") == CONTEXT_LENGTH
    refused = failure(base, spec(fits, ("bbb", "y"))).failure
    assert (refused.code, refused.param) == ("context_too_long", "/examples")
    assert str(longest + len("=x;bbb=y")) in refused.message
    assert str(CONTEXT_LENGTH) in refused.message


def test_example_outside_the_context_must_fit_behind_it(base: LanguageModel) -> None:
    long = Example(text="a" * CONTEXT_LENGTH, label="x")
    refused = failure(base, spec(("a", "x"), ("b", "y"), training_examples=(long,))).failure
    assert refused.code == "context_too_long"


@pytest.mark.parametrize("training", [False, True])
def test_every_example_must_fit_with_every_label(base: LanguageModel, training: bool) -> None:
    """Held-out folds score an example for all labels, not only for its own."""
    others = (Example(text="b", label="x"), Example(text="c", label="y" * 40))

    def given(size: int) -> TuningSpec:
        long = Example(text="a" * size, label="x")
        examples, outside = (others, (long,)) if training else ((*others, long), ())
        return TuningSpec(examples=examples, training_examples=outside, template=BARE)

    room = CONTEXT_LENGTH - len("b=x;c=") - 40 - len(";=") - 40
    fits = room if training else (room - len(";=x")) // 2
    assert plan(base, given(fits))
    refused = failure(base, given(fits + 1)).failure
    assert (refused.code, refused.param) == ("context_too_long", "/examples")


def test_single_example_with_labels_besides_its_own_is_planned(base: LanguageModel) -> None:
    assert plan(base, spec(("a", "x"), labels=("x", "y"))).training_examples == 1


def test_labels_of_too_many_tokens_are_refused(base: LanguageModel) -> None:
    labels = tuple(f"{number:03}{'y' * 200}" for number in range(8))
    assert len(labels) * 200 > MAX_LABEL_TOKENS
    refused = failure(base, spec(("a", labels[0]), ("b", labels[1]), labels=labels)).failure
    assert (refused.code, refused.param) == ("text_too_long", "/labels")
    assert str(MAX_LABEL_TOKENS) in refused.message
    shared = tuple(f"{'y' * 60}{number}" for number in range(8))  # one path, and a last token each
    assert plan(base, spec(("a", shared[0]), ("b", shared[1]), labels=shared))


def test_labels_that_the_model_cannot_tell_apart_are_refused(base: LanguageModel) -> None:
    refused = failure(base, spec(("a", "caf\u00e9"), ("b", "cafe\u0301"))).failure
    assert refused.code == "labels_indistinguishable"
    assert "caf" not in refused.message


def test_label_that_begins_another_is_told_from_it(base: LanguageModel) -> None:
    short, long = encode(base, spec(("a", "card"), ("b", "card arrival"))).shots.label_ids
    assert short != long[: len(short)]


def test_copies_in_the_context_know_their_place_and_others_have_none(base: LanguageModel) -> None:
    encoded = encode(base, spec(("a", "x"), ("b", "y"), training_examples=(Example(text="c", label="x"),)))
    assert [tokens.context_index for tokens in encoded.training] == [0, 1, None]


def resolved(**given: Any) -> ResolvedHyperparameters:
    return resolve(TuningSpec(examples=EXAMPLES, hyperparameters=Hyperparameters(**given)))


def test_what_is_left_to_the_reference_is_its_own(base: LanguageModel) -> None:
    values = resolved(method="cpt")
    assert (values.steps, values.batch_size, values.weighted_loss_type, values.loss_decay_factor) == (
        20,
        None,
        "none",
        1,
    )
    assert (values.projection_epsilon, values.projection_format_epsilon, values.epsilon_unit) == (0.1, 0.1, "reference")
    search = search_settings(base, Hyperparameters(method="cpt"), values, encode(base, spec(("a", "x"), ("b", "y"))))
    assert (search.folds, search.calibration, search.head, search.stops) == (False, False, False, (20,))
    (config,) = search.configs
    assert config["opt_projection_epsilon"] == 0.1


@pytest.mark.parametrize("method", ["auto", "cpt"])
def test_given_values_stay(method: str) -> None:
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
    }
    values = resolved(method=method, **given).model_dump()
    assert {name: values[name] for name in given} == given


def test_epsilons_relative_to_the_embeddings_give_a_share_of_their_norm(base: LanguageModel) -> None:
    given = Hyperparameters(projection_epsilon=0.25, projection_format_epsilon=0.5, epsilon_unit="embedding_norm")
    asked = TuningSpec(examples=EXAMPLES, hyperparameters=given)
    search = search_settings(base, given, resolve(asked), encode(base, asked))
    encoded = encode(base, spec(("ab", "x"), ("cd", "y")))
    assert search.tuning.epsilon_unit == base.embedding_norm
    radii = epsilon(encoded.context.config(**search.configs[0]), search.tuning.epsilon_unit)
    found = {round(radius / base.embedding_norm, 3) for radius in radii.tolist()}
    assert {0.25, 0.5} & found == {0.25}  # this template has no words of its own
    assert max(found) == 0.25


def test_loss_is_chosen_on_folds_only_where_it_is_left_to_the_service(base: LanguageModel) -> None:
    encoded = encode(base, TuningSpec(examples=EXAMPLES))

    def ways(**given: Any) -> int:
        hyperparameters = Hyperparameters(**given)
        return len(search_settings(base, hyperparameters, resolved(**given), encoded).configs)

    assert ways() == 2
    assert ways(method="cpt") == ways(weighted_loss_type="none") == ways(loss_decay_factor=0.5) == ways(steps=9) == 1


@pytest.mark.parametrize(
    ("given", "training"),
    [
        ({}, 0),
        ({}, 100),
        ({}, 3000),
        ({"steps": 50}, 0),
        ({"steps": 1}, 0),
        ({"steps": 1}, 3000),
        ({"method": "cpt"}, 0),
    ],
)
def test_search_costs_no_more_than_four_plain_runs(base: LanguageModel, given: dict[str, Any], training: int) -> None:
    examples = tuple(Example(text=f"{'ab' * number}", label=str(number % 3)) for number in range(1, 10))
    outside = tuple(Example(text=f"text {number}", label=str(number % 3)) for number in range(training))
    given_all = TuningSpec(examples=examples, training_examples=outside, hyperparameters=Hyperparameters(**given))
    planned = plan(base, given_all)
    assert 0 < planned.estimated_seconds <= 4 * planned.plain_seconds
    assert planned.total_steps == (planned.trials + 1) * planned.hyperparameters.steps


def many_labels(labels: int, inside: int, outside: int, **given: Any) -> TuningSpec:
    """Labels of a dozen tokens each, nothing of which they share."""
    names = [f"{chr(0x4E00 + number)} a long label" for number in range(labels)]
    examples = [Example(text=f"text {number}", label=names[number % labels]) for number in range(inside + outside)]
    hyperparameters = Hyperparameters(**given)
    return TuningSpec(
        examples=tuple(examples[:inside]), training_examples=tuple(examples[inside:]), hyperparameters=hyperparameters
    )


@pytest.mark.parametrize(("labels", "inside", "outside"), [(2, 8, 0), (2, 8, 300), (8, 8, 300), (60, 8, 300)])
def test_many_long_labels_cost_no_more_than_four_plain_runs_either(
    base: LanguageModel, labels: int, inside: int, outside: int
) -> None:
    planned = plan(base, many_labels(labels, inside, outside))
    assert planned.trials > 0
    assert 0 < planned.estimated_seconds <= 4 * planned.plain_seconds


def test_fewer_are_held_out_only_where_the_budget_wants_it(base: LanguageModel) -> None:
    def held_out(asked: TuningSpec) -> int:
        encoded = encode(base, asked)
        search = search_settings(base, asked.hyperparameters, resolve(asked), encoded)
        return sum(map(len, held_out_folds(encoded.shots, search)))

    assert held_out(many_labels(2, 8, 300)) == 192
    assert held_out(many_labels(60, 8, 300)) < 192
    assert held_out(many_labels(60, 8, 300, batch_size=8)) == 192


def test_validation_examples_take_time_too(base: LanguageModel) -> None:
    pairs = ("ab", "x"), ("cd", "y"), ("ef", "x"), ("gh", "y")
    without = plan(base, spec(*pairs))
    some = plan(base, spec(*pairs, validation_examples=(Example(text="ij", label="x"),) * 100))
    assert some.estimated_seconds > some.plain_seconds > 2 * without.plain_seconds


def test_too_few_examples_are_not_held_out(base: LanguageModel) -> None:
    assert plan(base, spec(("ab", "x"), ("cd", "y"))).trials == 0
    assert plan(base, spec(("ab", "x"), ("cd", "y"), ("ef", "x"), ("gh", "y"))).trials == 4


def test_validation_example_that_does_not_fit_is_refused_before_anything_is_stored(base: LanguageModel) -> None:
    long = Example(text="a" * base.context_length, label="x")
    refused = failure(base, spec(("a", "x"), ("b", "y"), validation_examples=(long,))).failure
    assert refused.code == "context_too_long"


def test_icl_takes_no_steps(base: LanguageModel) -> None:
    given = TuningSpec(examples=EXAMPLES, hyperparameters=Hyperparameters(method="icl", steps=50))
    planned = plan(base, given)
    assert (planned.hyperparameters.steps, planned.estimated_seconds) == (0, 0)


def test_a_step_computes_the_context_and_its_share_of_the_training(base: LanguageModel) -> None:
    shots = encode(base, spec(("ab", "x"), ("cd", "y"))).shots
    context, example = len("ab=x;cd=y"), len(";ab=x")
    assert shots.tokens_per_step([0, 1], None) == context + 2 * example
    assert shots.tokens_per_step([0, 1], 1) == context + example
    assert shots.tokens_per_step([0, 1], 100) == context + 2 * example
    assert shots.tokens_per_step([1], None) == len("cd=y") + example
