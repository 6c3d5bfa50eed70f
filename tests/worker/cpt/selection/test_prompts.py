from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from tests.worker import tiny
from worker.cpt.encoding.context import encode_labels
from worker.cpt.encoding.shots import Shots
from worker.cpt.encoding.template import Template
from worker.cpt.selection.prompts import cross_fitted_prompts, prompt_tokens, whole_prompts


def shots(count: int, labels: int = 2, context: int | None = None) -> Shots:
    tokenizer, template = tiny.tokenizer(), Template()
    names = tuple(f"label {number}" for number in range(labels))
    return Shots(
        tokenizer=tokenizer,
        template=template,
        labels=names,
        label_ids=tuple(map(tuple, encode_labels(tokenizer, template, names))),
        texts=tuple(f"text {number}" for number in range(count)),
        truth=tuple(number % labels for number in range(count)),
        context=count if context is None else context,
    )


@pytest.mark.parametrize("count", [4, 5, 8, 40])
def test_every_example_is_learned_by_one_prompt_and_not_by_the_other(count: int) -> None:
    plans = cross_fitted_prompts(shots(count), 2, 8, 10_000, None, 0)
    assert sorted(number for plan in plans for number in plan.unseen) == list(range(count))
    for plan in plans:
        assert plan.served
        assert not set(plan.unseen) & set(plan.training)
        assert len(plan.context) == min(count, 8)
        assert [plan.context[place] for place in plan.unlearned_places] == [
            number for number in plan.context if number in plan.unseen
        ]


def test_examples_that_a_prompt_does_not_learn_fill_its_context_up_last() -> None:
    for plan in cross_fitted_prompts(shots(12), 2, 8, 10_000, None, 0):
        assert len(plan.unlearned_places) == 2
    for plan in cross_fitted_prompts(shots(16), 2, 8, 10_000, None, 0):
        assert plan.unlearned_places == []


def test_prompt_that_serves_alone_holds_out_what_does_not_stand_in_it() -> None:
    plan, _ = cross_fitted_prompts(shots(20), 2, 8, 10_000, None, 0)
    assert plan.held_out(range(20)) == list(plan.unseen)
    assert replace(plan, alone=True).held_out(range(20)) == sorted(set(range(20)) - set(plan.context))


def test_prompt_that_serves_alone_holds_all_out_where_few_stand_outside_it() -> None:
    plan, _ = cross_fitted_prompts(shots(12), 2, 8, 10_000, None, 0)
    assert replace(plan, alone=True).held_out(range(12)) == list(range(12))


def test_prompt_that_serves_alone_holds_out_a_label_that_has_no_example_outside_it() -> None:
    rare = (3, 11)
    some = replace(shots(40), truth=tuple(int(number in rare) for number in range(40)))
    plan, _ = cross_fitted_prompts(some, 2, 8, 10_000, None, 0)
    assert set(rare) <= set(plan.context)
    outside = set(range(40)) - set(plan.context)
    assert replace(plan, alone=True).held_out(range(40)) == sorted(outside | set(rare))


def test_prompt_without_folds_holds_no_example_out() -> None:
    (plan,) = cross_fitted_prompts(shots(3), 2, 8, 10_000, None, 0)
    assert replace(plan, alone=True).held_out(range(3)) == []


def test_context_covers_the_labels_evenly_and_the_others_are_trained_on() -> None:
    some = shots(80, labels=4)
    for plan in cross_fitted_prompts(some, 2, 8, 10_000, None, 3):
        assert Counter(some.truth[number] for number in plan.context) == {0: 2, 1: 2, 2: 2, 3: 2}
        assert not set(plan.context) & set(plan.training)


def test_prompts_take_different_labels_where_not_all_find_room() -> None:
    some = shots(120, labels=20)
    one, other = ({some.truth[number] for number in p.context} for p in cross_fitted_prompts(some, 2, 8, 9999, None, 0))
    assert len(one) == len(other) == 8
    assert not one & other


def test_prompts_take_different_labels_where_their_tokens_have_no_room_for_all() -> None:
    some = shots(120, labels=20)
    most = 12 * len(some.example(119))
    plans = cross_fitted_prompts(some, 2, 20, most, None, 0)
    assert {some.truth[number] for plan in plans for number in plan.context} == set(range(20))


def test_few_examples_are_trained_on_in_the_context_too() -> None:
    for plan in cross_fitted_prompts(shots(8), 2, 8, 10_000, None, 0):
        assert set(plan.context) == {*plan.training, *plan.unseen}


def test_context_keeps_to_its_tokens_but_for_one_example() -> None:
    some = shots(40)
    length = len(some.example(39))
    (plan, _) = cross_fitted_prompts(some, 2, 20, 5 * length, None, 0)
    assert sum(len(some.example(number)) for number in plan.context) <= 5 * length
    (plan, _) = cross_fitted_prompts(some, 2, 20, 1, None, 0)
    assert len(plan.context) == 1


def test_long_examples_make_room_for_those_that_fit() -> None:
    """Where none fits the shortest stands alone."""
    some = shots(40)
    length = len(some.example(39))
    long = replace(some, texts=tuple("long " * 50 if n % 4 else text for n, text in enumerate(some.texts)))
    for plan in cross_fitted_prompts(long, 2, 20, 5 * length, None, 0):
        assert len(plan.context) == 5
        assert all(number % 4 == 0 for number in plan.context)
    longer = replace(some, texts=tuple("long " * (20 if n == 7 else 50) for n in range(40)))
    assert [plan.context for plan in cross_fitted_prompts(longer, 2, 20, 5 * length, None, 0)] == [(7,), (7,)]


def test_prompts_leave_room_for_the_longest_example() -> None:
    some = replace(shots(40), texts=(*(f"text {number}" for number in range(39)), "long " * 60))
    longest = len(some.example(39))
    assert some.longest_example(2 * longest) == longest
    assert prompt_tokens(some, longest + 11) == 10
    assert prompt_tokens(some, 4 * longest) == 2 * longest
    assert prompt_tokens(some, 100_000) == 1024


def test_longest_example_is_that_of_the_most_tokens_not_of_the_most_bytes() -> None:
    """The tokenizer reads bytes, so the label makes the difference."""
    some = replace(shots(80), label_ids=((1, 2), tuple(range(30))))
    texts = tuple("x" * (41 if number else 40) for number in range(80))
    some = replace(some, texts=texts)
    query = max(map(len, some.queries_of(range(80))))
    assert some.longest_example(100) == query + 30
    assert some.longest_example(10_000) == query + 30


def test_text_is_cut_to_the_room_of_the_longest_example() -> None:
    some = shots(8)
    longest = max(map(len, some.queries_of(range(8))))
    assert list(some.cut_query("text 3")) == some.queries_of([3])[0]
    cut, short = some.cut_query("words " * 1000), some.cut_query("words")
    assert len(short) < len(cut) <= longest
    assert (cut[:6], cut[-6:]) == (short[:6], short[-6:])


def test_text_of_one_long_letter_is_not_cut_to_nothing() -> None:
    """The examples have a token each, and the template none."""
    some = replace(shots(8), template=Template("{text}", "", "{label}", ""), texts=tuple("abcdefgh"))
    some = replace(some, label_texts=("\u597d", "\u597d\u597d"))
    assert [len(ids) for ids in (some.cut_query("\u597d"), *some.names_of([0, 1]))] == [1, 1, 1]


def test_those_that_stand_best_for_the_others_come_first() -> None:
    """Of each label nineteen texts are alike and one is alone: no context takes it."""
    some = shots(40)
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0]])[torch.tensor(some.truth)]
    vectors = functional.normalize(vectors + 0.1 * torch.rand(40, 2, generator=torch.Generator().manual_seed(0)))
    vectors[0], vectors[1] = torch.tensor([-1.0, 0.0]), torch.tensor([0.0, -1.0])
    for plan in cross_fitted_prompts(some, 2, 2, 10_000, vectors, 0):
        assert not {0, 1} & set(plan.context)


def test_examples_without_a_vector_are_not_chosen() -> None:
    vectors = torch.zeros(40, 2)
    vectors[:20] = torch.tensor([1.0, 0.0])
    for plan in cross_fitted_prompts(shots(40), 2, 12, 10_000, vectors, 0):
        assert max(plan.context) < 20


def test_small_context_is_kept_whole_and_only_others_are_held_out() -> None:
    for plan in cross_fitted_prompts(shots(20, context=2), 2, 8, 10_000, None, 0):
        assert set(plan.context) == {0, 1}
        assert not {0, 1} & set(plan.unseen)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_too_few_examples_are_one_prompt_of_all(count: int) -> None:
    (plan,) = cross_fitted_prompts(shots(count), 2, 8, 10_000, None, 0)
    assert (set(plan.context), plan.unseen) == (set(range(count)), ())


def test_prompts_are_a_function_of_the_seed() -> None:
    some = shots(40)
    assert cross_fitted_prompts(some, 2, 8, 999, None, 1) == cross_fitted_prompts(some, 2, 8, 999, None, 1)
    assert cross_fitted_prompts(some, 2, 8, 999, None, 1) != cross_fitted_prompts(some, 2, 8, 999, None, 2)


def test_the_reference_s_prompt_holds_all_that_may_stand_in_it() -> None:
    (plan,) = whole_prompts(shots(6, context=4), 0, 0)
    assert (plan.context, plan.training, plan.unseen) == ((0, 1, 2, 3), (0, 1, 2, 3, 4, 5), ())
    *folds, last = whole_prompts(shots(6), 3, 0)
    assert [one.served for one in folds] == [False] * 3
    assert last == whole_prompts(shots(6), 0, 0)[0]
    assert sorted(number for one in folds for number in one.unseen) == list(range(6))
