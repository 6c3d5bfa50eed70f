"""OpenAI's shapes, against the types of its own client."""

from typing import Any

import pytest
from pydantic import ValidationError

from app.compat.openai import DecisionRequest, answer, decision, error, questions_of, text_of
from app.compat.texts import Unreadable

CHOICE = {"type": "choice", "name": "team", "instructions": "Who?", "choices": [{"value": "card"}, {"value": True}]}


def request(**fields: Any) -> DecisionRequest:
    return DecisionRequest.model_validate({"model": "m", "input": "hello", "questions": [CHOICE], **fields})


def test_string_is_the_text() -> None:
    assert text_of(request()) == ("hello", "")


def test_one_message_is_its_parts_a_line_each() -> None:
    content = [{"type": "input_text", "text": "one"}, {"type": "input_json", "data": {"b": 1, "a": "ü"}}]
    assert text_of(request(input=[{"role": "user", "content": content}])) == ('one\n{"b": 1, "a": "ü"}', "")


def test_conversation_is_a_transcript_and_system_messages_are_instructions() -> None:
    said = [
        {"role": "system", "content": "Be strict."},
        {"role": "user", "content": "where is it?", "type": "message"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "On its way."}], "phase": "final_answer"},
    ]
    assert text_of(request(input=said)) == ("user: where is it?\nassistant: On its way.", "Be strict.")


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ({"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}, "input_image"),
        ({"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}, "function_call"),
        ({"role": "system", "content": "only this"}, "no message of a user"),
        *(({"role": "user", "content": content}, "must be text or a list") for content in (None, 5, True, {"a": "b"})),
        ({"role": "user", "content": [None]}, "a part has no type"),
        ({"role": "user", "content": [{"type": "My card"}]}, "a part of an unknown type"),
        ({"role": "user", "type": {"text": "My card"}}, "input of an unknown type"),
    ],
)
def test_what_is_no_text_is_refused_by_name(message: dict[str, Any], named: str) -> None:
    with pytest.raises(Unreadable, match=named):
        text_of(request(input=[message]))


@pytest.mark.parametrize(
    "fields",
    [
        {"questions": []},
        {"questions": [CHOICE] * 401},
        {"temperature": 1},
        {"questions": [CHOICE | {"choices": [{"value": 1}]}]},
        {"questions": [CHOICE | {"type": "rank"}]},
    ],
)
def test_body_of_another_form_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        request(**fields)


def test_choice_keeps_the_type_of_its_values() -> None:
    (question,) = questions_of(request())
    answered = answer(question, (0.2, 0.8))
    assert answered["choice"] is True
    assert answered["probabilities"] == [{"value": "card", "probability": 0.2}, {"value": True, "probability": 0.8}]
    assert answered["name"] == "team"


def test_score_counts_its_levels_from_0() -> None:
    asked = {"type": "score", "instructions": "How bad?", "levels": [{"label": "low"}, {"label": "high"}]}
    (question,) = questions_of(request(questions=[asked]))
    answered = answer(question, (0.25, 0.75))
    assert answered["score"] == pytest.approx(0.75)
    assert [level["value"] for level in answered["probabilities"]] == [0, 1]


def test_predicate_has_the_probability_of_true_alone() -> None:
    (question,) = questions_of(request(questions=[{"type": "predicate", "instructions": "Is it late?"}]))
    assert answer(question, (0.9, 0.1)) == {"type": "predicate", "name": None, "probability": 0.9}
    assert answer(question, None) == {"type": "refusal", "name": None}


def test_usage_has_every_integer() -> None:
    usage = decision("m", [], 7)["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] == 7
    assert usage["input_tokens_details"] == {"cached_tokens": 0, "cache_write_tokens": 0}


def test_error_stands_beside_the_problem() -> None:
    problem = {"detail": "no such model", "code": "model_unknown", "param": "/model", "status": 404}
    assert error(problem)["error"] == {
        "message": "no such model",
        "type": "model_unknown",
        "param": "/model",
        "code": "model_unknown",
    }
