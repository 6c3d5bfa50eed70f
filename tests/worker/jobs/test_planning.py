from typing import Any

import pytest

from app.contract.tuning import Example, Hyperparameters, Template, TuningSpec
from tests.submissions import EXAMPLES
from tests.worker.tiny import CONTEXT_LENGTH, base_model, sentence_encoder
from worker.cpt.scoring.trie import MAX_LABEL_TOKENS
from worker.jobs.encoding import Unplannable, encode
from worker.jobs.planning import plan
from worker.models import LanguageModel

BARE = Template(input="{text}", separator="=", output="{label}", between=";")


def spec(*pairs: tuple[str, str], **fields: Any) -> TuningSpec:
    examples = tuple(Example(text=text, label=label) for text, label in pairs)
    given = Hyperparameters.model_validate({"method": fields.pop("method", "cpt"), **fields.pop("hyperparameters", {})})
    return TuningSpec(examples=examples, **{"template": BARE, "hyperparameters": given, **fields})


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


@pytest.mark.parametrize("method", ["auto", "cpt"])
@pytest.mark.parametrize("where", ["examples", "training_examples", "validation_examples"])
def test_single_example_that_is_too_long_is_refused_whatever_the_method(
    base: LanguageModel, method: str, where: str
) -> None:
    long = (Example(text="a" * CONTEXT_LENGTH, label="x"),)
    fields: dict[str, Any] = {"examples": EXAMPLES, where: long + (EXAMPLES if where == "examples" else ())}
    hyperparameters = Hyperparameters.model_validate({"method": method})
    given = TuningSpec(**fields, labels=("x", "good", "bad"), hyperparameters=hyperparameters)
    refused = failure(base, given).failure
    assert (refused.code, refused.param) == ("context_too_long", f"/{where}/0/text")
    assert f"it may have {CONTEXT_LENGTH}" in refused.message


def test_auto_takes_more_than_the_context_length(base: LanguageModel) -> None:
    pairs = [(f"text {number} {'a' * 40}", "xy"[number % 2]) for number in range(100)]
    assert failure(base, spec(*pairs)).failure.code == "context_too_long"
    planned = plan(base, spec(*pairs, method="auto"))
    assert planned.context_tokens < 2 * CONTEXT_LENGTH
    assert planned.training_examples == 100


def test_examples_of_which_no_two_find_room_are_refused(base: LanguageModel) -> None:
    """One stands in the prompt, and the longest must find room after it."""
    half = CONTEXT_LENGTH // 2
    pairs = [("a" * (half + number % 8), "xy"[number % 2]) for number in range(8)]
    assert failure(base, spec(*pairs, method="auto")).failure.code == "context_too_long"
    assert plan(base, spec(*pairs, ("short", "x"), method="auto"))


def test_every_example_must_fit_with_every_label(base: LanguageModel) -> None:
    """Held-out folds score an example for all labels, not only for its own."""
    others = (("b", "x"), ("c", "y" * 40))
    fits = (CONTEXT_LENGTH - len("b=x;c=") - 40 - len(";=") - 40 - len(";=x")) // 2
    assert plan(base, spec(*others, ("a" * fits, "x")))
    assert failure(base, spec(*others, ("a" * (fits + 1), "x"))).failure.code == "context_too_long"


def test_single_example_with_labels_besides_its_own_is_planned(base: LanguageModel) -> None:
    assert plan(base, spec(("a", "x"), labels=("x", "y"))).training_examples == 1
    assert plan(base, spec(("a", "x"), labels=("x", "y"), method="auto")).training_examples == 1


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
    shots = encode(base, spec(("a", "x"), ("b", "y"), ("c", "x"))).shots
    assert [tokens.context_index for tokens in shots.training_of([0, 1, 2], [2, 0])] == [1, None, 0]


def test_what_a_label_means_is_its_name_in_words_and_its_description(base: LanguageModel) -> None:
    labels = ({"name": "card_arrival", "description": "asks when a card comes"}, "other")
    given = TuningSpec.model_validate(
        {"examples": [{"text": "a", "label": "card_arrival"}, {"text": "b", "label": "other"}], "labels": labels}
    )
    assert encode(base, given).shots.label_texts == ("card arrival: asks when a card comes", "other")


def test_validation_examples_take_time_too(base: LanguageModel) -> None:
    pairs = ("ab", "x"), ("cd", "y"), ("ef", "x"), ("gh", "y")
    some = spec(*pairs, validation_examples=(Example(text="ij", label="x"),) * 100)
    assert plan(base, some).estimated_seconds > 1.5 * plan(base, spec(*pairs)).estimated_seconds


def test_icl_takes_no_steps(base: LanguageModel) -> None:
    planned = plan(base, spec(("ab", "x"), ("cd", "y"), method="icl", hyperparameters={"steps": 50}))
    assert (planned.hyperparameters.steps, planned.total_steps, planned.budgets) == (0, 0, ())


def many(count: int, **given: Any) -> TuningSpec:
    pairs = [(f"text {number}", "xy"[number % 2]) for number in range(count)]
    return spec(*pairs, method="auto", hyperparameters=given)


def test_longer_budgets_buy_more_and_none_costs_more_than_it_says() -> None:
    planned = plan(base_model(0, sentence_encoder()), many(400))
    budgets, own = planned.budgets, planned.hyperparameters.max_seconds
    assert [one.max_seconds for one in budgets] == [30.0, 120.0, own, 600.0, None]
    worth = [(len(one.trials), one.trials[0].examples) for one in budgets]
    assert worth == sorted(worth)
    assert [one.encoder_steps for one in budgets] == [12] * 5
    given = plan(base_model(0, sentence_encoder()), many(400, encoder_steps=3)).budgets
    assert [one.encoder_steps for one in given] == [3] * 5
    for one in budgets:
        assert one.max_seconds is None or one.estimated_seconds <= one.max_seconds


def test_no_bound_can_be_asked_for(base: LanguageModel) -> None:
    planned = plan(base, many(40, max_seconds="none"))
    assert planned.hyperparameters.max_seconds is None
    assert [one.max_seconds for one in planned.budgets] == [30.0, 120.0, 600.0, None]
    assert planned.estimated_seconds == planned.budgets[-1].estimated_seconds


def test_estimate_keeps_to_the_bound(base: LanguageModel) -> None:
    slow = plan(base, many(400, max_seconds=86_400.0)).estimated_seconds
    assert plan(base, many(400, max_seconds=slow / 3)).estimated_seconds <= slow / 3


def test_bound_that_is_too_short_for_the_first_trial_is_what_it_takes(base: LanguageModel) -> None:
    planned = plan(base, many(400, max_seconds=0.0001))
    assert planned.estimated_seconds == planned.budgets[0].estimated_seconds == 0.0001


def test_plan_of_ten_thousand_examples_is_quick_to_read(base: LanguageModel) -> None:
    planned = plan(base, many(10_000))
    assert planned.hyperparameters.max_seconds == 900
    assert planned.training_examples == 10_000


def test_more_steps_of_the_encoder_than_there_is_time_for_leave_the_trials_their_share() -> None:
    base, seconds = base_model(0, sentence_encoder()), 1.0
    greedy = plan(base, many(200, max_seconds=seconds, encoder_steps=1000))
    assert greedy.hyperparameters.encoder_steps == 1000
    assert greedy.estimated_seconds <= seconds
    modest = plan(base, many(200, max_seconds=seconds / 3, encoder_steps=0))
    assert greedy.hyperparameters.trials[0].examples >= modest.hyperparameters.trials[0].examples
