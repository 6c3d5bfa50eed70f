"""TypeSafe's shapes."""

from typing import Any

import pytest
from pydantic import ValidationError

from app.compat.systemone import SystemOneRequest, answer, error, questions_of, response, text_of

QUESTIONS = {
    "late": {"type": "noul", "criteria": {"true": "it has not come"}},
    "team": {"type": "choice", "instructions": {"ask": "who"}, "criteria": {"card": None, "löan": ["a", "b"]}},
    "mood": {"type": "score", "criteria": ["calm", {"level": "angry"}]},
}


def request(**fields: Any) -> SystemOneRequest:
    return SystemOneRequest.model_validate({"state": "hello", "model": "jev-latest", "questions": QUESTIONS, **fields})


def test_state_of_any_form_is_text() -> None:
    assert text_of(request()) == "hello"
    assert text_of(request(state={"b": "ü", "a": [1]})) == '{"b": "ü", "a": [1]}'


def test_fields_of_newer_clients_are_ignored() -> None:
    assert request(stream=True).model == "jev-latest"


@pytest.mark.parametrize(
    "fields",
    [
        {"questions": {}},
        {"questions": {"q": {"type": "box"}}},
        {"questions": {"q": {"type": "choice", "criteria": {}}}},
        {"questions": {"q": {"type": "score", "criteria": {"0": "low"}}}},
        {"state": None},
        {"model": 7},
    ],
)
def test_body_of_another_form_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        request(**fields)


def test_answers_have_the_types_that_the_client_keeps() -> None:
    asked = request()
    probabilities = ((0.9, 0.1), (0.25, 0.75), (0.5, 0.5))
    answers = {
        question.name or "": answer(question, asked.questions[question.name or ""], p)
        for question, p in zip(questions_of(asked), probabilities, strict=True)
    }
    assert answers["late"] == {"type": "noul", "noul": 0.9}
    assert answers["team"]["choice"] == "löan"
    assert answers["team"]["probabilities"] == {"card": 0.25, "löan": 0.75}
    assert answers["mood"]["legend"] == {"0": "calm", "1": {"level": "angry"}}
    assert answers["mood"]["score"] == pytest.approx(0.5)
    assert response("m", answers, 3)["usage"] == {"input_tokens": 3, "output_tokens": 0}


def test_descriptions_are_text_or_json() -> None:
    late, team, _ = questions_of(request())
    assert [option.description for option in late.options] == ["it has not come", None]
    assert [option.description for option in team.options] == [None, '["a", "b"]']
    assert team.instructions == '{"ask": "who"}'


def test_detail_is_a_list_for_a_422_and_an_object_else() -> None:
    problem = {"detail": "must not be empty", "title": "Invalid request", "code": "invalid_request", "status": 422}
    told = error({**problem, "param": "/questions/team~1a/criteria/0"})
    location = ["body", "questions", "team/a", "criteria", 0]
    assert told["detail"] == [{"loc": location, "msg": "must not be empty", "type": "invalid_request"}]
    assert told["title"] == "must not be empty"
    missing = error({"detail": "no such model", "code": "model_unknown", "status": 404})
    assert missing["detail"] == {"error_type": "model_unknown", "message": "no such model"}
    refused = error({"detail": "a key is needed", "code": "key_required", "status": 401})
    assert refused["detail"]["error_type"] == "authentication_error"
