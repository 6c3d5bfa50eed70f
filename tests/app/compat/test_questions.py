"""Figures and rules that all doors share."""

import pytest

from app.compat.questions import (
    Kind,
    Option,
    Question,
    Unanswerable,
    answering_models,
    choice_confidence,
    expected_level,
    label_indices,
    least_confidence,
    renormalised,
    score_confidence,
)


def choice(*values: str | bool, name: str | None = None) -> Question:
    return Question(name, Kind.CHOICE, "", tuple(map(Option.of, values)))


def predicate(name: str | None = None) -> Question:
    return Question(name, Kind.PREDICATE, "", (Option.of(True), Option.of(False)))


@pytest.mark.parametrize(
    ("probabilities", "confidence"), [((1.0,), 1.0), ((0.5, 0.5), 0.0), ((1.0, 0.0, 0.0), 1.0), ((0.6, 0.2, 0.2), 0.4)]
)
def test_confidence_of_a_choice_is_how_peaked_it_is(probabilities: tuple[float, ...], confidence: float) -> None:
    assert choice_confidence(probabilities) == pytest.approx(confidence)


@pytest.mark.parametrize(
    ("probabilities", "confidence"),
    [((1.0,), 1.0), ((0.0, 1.0, 0.0), 1.0), ((0.5, 0.0, 0.5), 0.0), ((0.2, 0.6, 0.2), 0.4)],
)
def test_confidence_of_a_score_falls_with_the_distance_from_its_mode(
    probabilities: tuple[float, ...], confidence: float
) -> None:
    assert score_confidence(probabilities) == pytest.approx(confidence)


def test_score_is_the_expected_level() -> None:
    assert expected_level((0.25, 0.25, 0.5)) == pytest.approx(1.25)


def test_subset_of_labels_is_renormalised() -> None:
    places = label_indices(choice("refund", "card"), ("card", "loan", "refund"))
    assert renormalised((0.1, 0.6, 0.3), places) == pytest.approx((0.75, 0.25))


def test_options_without_any_probability_are_equally_likely() -> None:
    assert renormalised((0.0, 1.0, 0.0), (0, 2)) == (0.5, 0.5)


@pytest.mark.parametrize("labels", [("false", "true"), ("no", "yes"), ("other", "no", "yes")])
def test_predicate_is_answered_by_true_and_false_or_yes_and_no(labels: tuple[str, ...]) -> None:
    first, second = label_indices(predicate(), labels)
    assert labels[first] in ("true", "yes")
    assert labels[second] in ("false", "no")


def test_predicate_needs_labels_for_both_outcomes() -> None:
    with pytest.raises(Unanswerable, match="true and false"):
        label_indices(predicate(), ("true", "maybe"))


def test_unknown_option_is_named_with_the_labels_there_are() -> None:
    with pytest.raises(Unanswerable, match="no label 'loan'; its labels are card, refund"):
        label_indices(choice("card", "loan"), ("card", "refund"))


def test_text_and_truth_of_the_same_label_are_refused() -> None:
    with pytest.raises(Unanswerable, match="same label 'true'"):
        choice(True, "true")


def test_one_model_answers_every_question() -> None:
    assert answering_models("support@prod", (predicate(), choice("a"))) == ("support@prod", "support@prod")


def test_list_of_models_gives_each_question_its_own() -> None:
    questions = (choice("a", name="team"), predicate("is it = urgent"), predicate(), choice("a", name="other"))
    found = answering_models("team=support-team@prod, is it = urgent=urgency,*=smollm2", questions)
    assert found == ("support-team@prod", "urgency", "smollm2", "smollm2")


@pytest.mark.parametrize("model", ["team=", "=support", "team=support,nonsense"])
def test_list_of_models_of_another_form_is_refused(model: str) -> None:
    with pytest.raises(Unanswerable, match="question=model"):
        answering_models(model, (choice("a", name="team"),))


def test_question_that_nothing_answers_is_named() -> None:
    with pytest.raises(Unanswerable, match="'urgent'"):
        answering_models("team=support", (predicate("urgent"),))


@pytest.mark.parametrize(
    ("said", "least"), [("0.8", 0.8), (" 1e-1 ", 0.1), ("", 0.0), ("high", 0.0), ("nan", 0.0), ("inf", 0.0)]
)
def test_context_abstains_below_the_number_in_its_metadata(said: str, least: float) -> None:
    assert least_confidence({"min_confidence": said, "team": "cards"}) == least


def test_context_that_says_nothing_never_abstains() -> None:
    assert least_confidence({}) == 0.0
