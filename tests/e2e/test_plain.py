"""Classifying without a job: with examples that the request brings, or with descriptions of labels."""

import copy
from typing import Any

import pytest

from tests.e2e.service import EXAMPLES, TEXTS, TINY, Service, assert_problem

DESCRIBED = [
    {"name": "card arrival", "description": "a card that was ordered has not come"},
    {"name": "card linking", "description": "how to add a card to the app"},
]
MANY = [{"text": f"text {number}", "label": "ab"[number % 2]} for number in range(1_001)]


def ask(service: Service, **fields: Any) -> dict[str, Any]:
    response = service.http.post("/classify", json={"inputs": TEXTS, **fields})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_examples_answer_at_once_and_are_stored_nowhere(service: Service) -> None:
    before = service.listed("/contexts"), service.listed("/jobs"), service.artifacts()
    answer = ask(service, examples=EXAMPLES, inputs=["my card never came", "how do I link this card?"])
    assert [one["prediction"] for one in answer["classifications"]] == ["card arrival", "card linking"]
    assert (answer["object"], answer["context_id"], answer["context_version"]) == ("classification", None, None)
    assert answer["calibrated"] is False
    assert answer["usage"]["context_tokens"] > 50
    again = ask(service, examples=EXAMPLES, inputs=["my card never came", "how do I link this card?"])
    assert again["classifications"] == answer["classifications"]
    assert (service.listed("/contexts"), service.listed("/jobs"), service.artifacts()) == before


def test_labels_alone_answer_by_their_descriptions(service: Service) -> None:
    answer = ask(service, labels=DESCRIBED)
    assert [one["prediction"] for one in answer["classifications"]] == ["card arrival", "card linking", "card arrival"]
    named = ask(service, labels=[one["name"] for one in DESCRIBED])
    assert set(named["classifications"][0]["labels"]) == {"card arrival", "card linking"}
    assert named["classifications"] != answer["classifications"]


def test_the_same_body_without_inputs_and_options_tunes(service: Service) -> None:
    body = {
        "examples": EXAMPLES,
        "labels": DESCRIBED,
        "model": TINY,
        "template": {"input": "{text}", "output": "is {label}"},
    }
    answer = ask(service, **body, truncate="END", min_confidence=0.1)
    assert answer["model"] == TINY
    assert service.http.post("/contexts?dry_run=true", json=body).status_code == 200


def test_large_request_is_answered_whole(service: Service) -> None:
    texts = [f"text {number}" for number in range(300)]
    answer = ask(service, examples=MANY[:8], model=TINY, inputs=texts, batch_calibration=True)
    assert [one["index"] for one in answer["classifications"]] == list(range(300))


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({}, "invalid_request", "/context"),
        ({"context": "shared", "examples": EXAMPLES}, "invalid_request", "/examples"),
        ({"context": "shared", "model": TINY}, "invalid_request", "/model"),
        ({"model": "support-intents"}, "invalid_request", "/model"),
        ({"examples": []}, "too_few_labels", "/examples"),
        ({"examples": EXAMPLES[:1]}, "too_few_labels", "/examples"),
        ({"examples": MANY}, "too_many_examples", "/examples"),
        ({"examples": [*EXAMPLES, {**EXAMPLES[0], "label": "card linking"}]}, "contradicting_examples", "/examples/4"),
        ({"examples": EXAMPLES, "labels": ["card arrival", "other"]}, "label_unknown", "/examples/1/label"),
        ({"labels": ["one"]}, "too_few_labels", "/labels"),
        ({"labels": ["one", "one"]}, "invalid_request", "/labels"),
        ({"labels": [str(number) for number in range(257)]}, "too_many_labels", "/labels"),
        ({"labels": ["one", {"name": "two", "describes": "x"}]}, "invalid_request", "/labels/1/describes"),
        ({"labels": ["one", "two"], "model": "no-such-model"}, "model_unknown", "/model"),
        ({"labels": ["one", "two"], "template": {"input": "x"}}, "template_invalid", "/template"),
        ({"examples": MANY[:400], "model": TINY}, "context_too_long", "/examples"),
        ({"labels": ["one", "two"], "inputs": ["x" * 600], "model": TINY}, "input_too_long", "/inputs/0"),
    ],
)
def test_bad_input_is_refused(service: Service, tuned: str, fields: dict[str, Any], code: str, param: str) -> None:
    body = {"inputs": TEXTS, **copy.deepcopy(fields)}
    if "context" in body:
        body["context"] = tuned
    response = service.http.post("/classify", json=body)
    assert_problem(response, 422, code, param)
    if fields == {"model": "support-intents"}:
        assert "/compat/cohere" in response.json()["detail"]
