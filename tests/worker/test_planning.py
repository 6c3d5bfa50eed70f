from typing import Any

import pytest

from app.contract.tuning import Example, Hyperparameters, Template, TuningSpec
from tests.submissions import EXAMPLES
from tests.worker.tiny import CONTEXT_LENGTH
from worker.models import BaseModel
from worker.planning import Unplannable, encode, plan, resolve, tokens_per_step

BARE = Template(input="{text}", separator="=", output="{label}", between=";")


def spec(*pairs: tuple[str, str], **fields: Any) -> TuningSpec:
    examples = tuple(Example(text=text, label=label) for text, label in pairs)
    return TuningSpec(examples=examples, **{"template": BARE, **fields})


def failure(base: BaseModel, given: TuningSpec) -> Unplannable:
    with pytest.raises(Unplannable) as caught:
        plan(base, given)
    return caught.value


def test_counts_are_those_of_the_written_examples(base: BaseModel) -> None:
    planned = plan(base, spec(("ab", "x"), ("cdef", "y"), training_examples=(Example(text="g", label="x"),)))
    assert planned.context_tokens == len("ab=x;cdef=y")
    assert planned.longest_example_tokens == len(";cdef=y")
    assert planned.training_examples == 3
    assert planned.context_limit == CONTEXT_LENGTH
    assert planned.estimated_seconds > 0


def test_context_that_just_fits_is_taken_and_one_token_more_is_refused(base: BaseModel) -> None:
    longest = (CONTEXT_LENGTH - len("=x;bb=y;=x")) // 2
    fits = ("a" * longest, "x")
    assert plan(base, spec(fits, ("bb", "y"))).context_tokens + longest + len(";=x") == CONTEXT_LENGTH
    refused = failure(base, spec(fits, ("bbb", "y"))).failure
    assert (refused.code, refused.param) == ("context_too_long", "/examples")
    assert str(longest + len("=x;bbb=y")) in refused.message
    assert str(CONTEXT_LENGTH) in refused.message


def test_example_outside_the_context_must_fit_behind_it(base: BaseModel) -> None:
    long = Example(text="a" * CONTEXT_LENGTH, label="x")
    refused = failure(base, spec(("a", "x"), ("b", "y"), training_examples=(long,))).failure
    assert refused.code == "context_too_long"


def test_labels_that_the_model_cannot_tell_apart_are_refused(base: BaseModel) -> None:
    refused = failure(base, spec(("a", "caf\u00e9"), ("b", "cafe\u0301"))).failure
    assert refused.code == "labels_indistinguishable"
    assert "caf" not in refused.message


def test_label_that_begins_another_is_told_from_it(base: BaseModel) -> None:
    short, long = encode(base, spec(("a", "card"), ("b", "card arrival"))).label_ids
    assert short != long[: len(short)]


def test_copies_in_the_context_know_their_place_and_others_have_none(base: BaseModel) -> None:
    encoded = encode(base, spec(("a", "x"), ("b", "y"), training_examples=(Example(text="c", label="x"),)))
    assert [tokens.context_index for tokens in encoded.training] == [0, 1, None]


def test_auto_is_the_reference_and_given_values_stay() -> None:
    auto = resolve(Hyperparameters())
    assert (auto.method, auto.batch_size, auto.weighted_loss_type, auto.loss_decay_factor) == ("cpt", None, "none", 1.0)
    assert (auto.projection_epsilon, auto.projection_format_epsilon) == (0.1, 0.1)
    given: dict[str, Any] = {"steps": 7, "learning_rate": 0.5, "batch_size": 3, "seed": 9, "leave_one_out": True}
    resolved = resolve(Hyperparameters(**given)).model_dump()
    assert {name: resolved[name] for name in given} == given


def test_validation_example_that_does_not_fit_is_refused_before_anything_is_stored(base: BaseModel) -> None:
    long = Example(text="a" * base.context_length, label="x")
    refused = failure(base, spec(("a", "x"), ("b", "y"), validation_examples=(long,))).failure
    assert refused.code == "context_too_long"


def test_icl_takes_no_steps(base: BaseModel) -> None:
    given = TuningSpec(examples=EXAMPLES, hyperparameters=Hyperparameters(method="icl", steps=50))
    planned = plan(base, given)
    assert (planned.hyperparameters.steps, planned.estimated_seconds) == (0, 0)


def test_a_step_computes_the_context_and_its_share_of_the_training(base: BaseModel) -> None:
    encoded = encode(base, spec(("ab", "x"), ("cd", "y")))
    context, example = len("ab=x;cd=y"), len(";ab=x")
    assert tokens_per_step(encoded, None) == context + 2 * example
    assert tokens_per_step(encoded, 1) == context + example
    assert tokens_per_step(encoded, 100) == context + 2 * example
