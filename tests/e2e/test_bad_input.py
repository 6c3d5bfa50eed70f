"""Every bad input is answered with a problem document that says what and where, and changes nothing."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.service import EXAMPLES, TEXTS, TINY, Service, assert_problem
from tests.worker.tiny import CONTEXT_LENGTH

SECRET = "correct horse battery staple"
MINE = {"text": SECRET, "label": "card arrival"}
JSON = {"content-type": "application/json"}


@pytest.fixture(autouse=True)
def _nothing_changes(service: Service) -> Iterator[None]:
    def stored() -> list[list[str]]:
        return [service.listed("/contexts"), service.listed("/jobs")]

    before = stored()
    yield
    assert stored() == before


def post_raw(service: Service, path: str, body: str | bytes, kind: str = "application/json") -> httpx.Response:
    return service.http.post(path, content=body, headers={"content-type": kind})


CONTEXTS: list[tuple[str, dict[str, Any], str, str | None]] = [
    ("no examples", {"examples": []}, "too_few_labels", "/examples"),
    ("one label", {"examples": [MINE]}, "too_few_labels", "/examples"),
    ("one label given", {"labels": ["card arrival"]}, "too_few_labels", "/labels"),
    ("repeated label", {"labels": ["card arrival", "card linking", "card linking"]}, "invalid_request", "/labels"),
    (
        "unknown label",
        {"examples": [*EXAMPLES, {**MINE, "label": SECRET}], "labels": ["card arrival", "card linking"]},
        "label_unknown",
        "/examples/4/label",
    ),
    (
        "label of no example",
        {"validation_examples": [{**MINE, "label": "unheard of"}]},
        "label_unknown",
        "/validation_examples/0/label",
    ),
    (
        "contradiction",
        {"examples": [*EXAMPLES, MINE, {**MINE, "label": "card linking"}]},
        "contradicting_examples",
        "/examples/5",
    ),
    (
        "contradiction elsewhere",
        {"training_examples": [{**EXAMPLES[0], "label": "card linking"}]},
        "contradicting_examples",
        "/training_examples/0",
    ),
    ("empty text", {"examples": [*EXAMPLES, {**MINE, "text": ""}]}, "text_empty", "/examples/4/text"),
    ("blank label", {"examples": [*EXAMPLES, {**MINE, "label": " "}]}, "text_empty", "/examples/4/label"),
    ("NUL", {"examples": [*EXAMPLES, {**MINE, "text": SECRET + "\0"}]}, "text_invalid", "/examples/4/text"),
    ("surrogate", {"examples": [*EXAMPLES, {**MINE, "text": SECRET + "\ud800"}]}, "text_invalid", "/examples/4/text"),
    (
        "long text",
        {"examples": [*EXAMPLES, {**MINE, "text": SECRET * 4_000}]},
        "text_too_long",
        "/examples/4/text",
    ),
    (
        "10,001 examples",
        {"examples": [{"text": str(n), "label": str(n % 2)} for n in range(10_001)]},
        "too_many_examples",
        "/examples",
    ),
    (
        "257 labels",
        {"examples": [{"text": str(n), "label": str(n)} for n in range(257)]},
        "too_many_labels",
        "/examples",
    ),
    (
        "same tokens",
        {"examples": [{"text": "a", "label": "caf\u00e9"}, {"text": "b", "label": "cafe\u0301"}], "model": TINY},
        "labels_indistinguishable",
        "/examples",
    ),
    (
        "long context",
        {"examples": [*EXAMPLES, {**MINE, "text": "x " * CONTEXT_LENGTH}], "model": TINY},
        "context_too_long",
        f"/examples/{len(EXAMPLES)}/text",
    ),
    ("no such model", {"model": SECRET}, "model_unknown", "/model"),
    ("model is a number", {"model": 7}, "invalid_request", "/model"),
    ("model is a surrogate", {"model": "\ud800"}, "invalid_request", "/model"),
    ("template without {text}", {"template": {"input": SECRET}}, "template_invalid", "/template"),
    ("template without {label}", {"template": {"output": SECRET}}, "template_invalid", "/template"),
    ("template with a NUL", {"template": {"separator": "\0"}}, "text_invalid", "/template/separator"),
    ("unknown field", {"epochs": SECRET}, "invalid_request", "/epochs"),
    (
        "unknown field of an example",
        {"examples": [{**MINE, "weight": 2}, *EXAMPLES]},
        "invalid_request",
        "/examples/0/weight",
    ),
    (
        "unknown hyperparameter",
        {"hyperparameters": {"optimizer": SECRET}},
        "invalid_request",
        "/hyperparameters/optimizer",
    ),
    ("steps out of range", {"hyperparameters": {"steps": 0}}, "invalid_request", "/hyperparameters/steps"),
    ("steps not whole", {"hyperparameters": {"steps": 1.5}}, "invalid_request", "/hyperparameters/steps"),
    (
        "rate is no number",
        {"hyperparameters": {"learning_rate": SECRET}},
        "invalid_request",
        "/hyperparameters/learning_rate",
    ),
    ("seed too large", {"hyperparameters": {"seed": 2**63}}, "invalid_request", "/hyperparameters/seed"),
    ("unknown method", {"hyperparameters": {"method": SECRET}}, "invalid_request", "/hyperparameters/method"),
    ("token dropout", {"hyperparameters": {"token_dropout": 1}}, "invalid_request", "/hyperparameters/token_dropout"),
    ("name with a space", {"name": "my intents"}, "invalid_request", "/name"),
    ("name with a newline", {"name": "intents\n"}, "invalid_request", "/name"),
    ("name like an id", {"name": "ctx_1"}, "invalid_request", "/name"),
    ("name like a version", {"name": "intents@1"}, "invalid_request", "/name"),
    ("long name", {"name": "x" * 129}, "invalid_request", "/name"),
    (
        "several labels",
        {"examples": [*EXAMPLES, {**MINE, "label": ["card arrival", "card linking"]}]},
        "multi_label_unsupported",
        "/examples/4/label",
    ),
    ("no labels", {"labels": []}, "too_few_labels", "/labels"),
    (
        "label without a name",
        {"labels": ["card arrival", {"description": SECRET}]},
        "invalid_request",
        "/labels/1/name",
    ),
    ("blank calibration text", {"calibration_texts": ["fine", " "]}, "text_empty", "/calibration_texts/1"),
    ("no seconds", {"hyperparameters": {"max_seconds": 0}}, "invalid_request", "/hyperparameters/max_seconds"),
    ("metadata of numbers", {"metadata": {"team": 7}}, "invalid_request", "/metadata/team"),
    ("nested metadata", {"metadata": {"team": {"name": SECRET}}}, "invalid_request", "/metadata/team"),
    ("long metadata", {"metadata": {"note": SECRET * 20}}, "invalid_request", "/metadata/note"),
    ("much metadata", {"metadata": {str(n): "" for n in range(17)}}, "invalid_request", "/metadata"),
    ("examples are a text", {"examples": SECRET}, "invalid_request", "/examples"),
    ("example is a text", {"examples": [SECRET]}, "invalid_request", "/examples/0"),
    ("example without a label", {"examples": [{"text": SECRET}]}, "invalid_request", "/examples/0/label"),
]


@pytest.mark.parametrize(("body", "code", "param"), [case[1:] for case in CONTEXTS], ids=[case[0] for case in CONTEXTS])
def test_bad_context_is_refused(service: Service, body: dict[str, Any], code: str, param: str | None) -> None:
    response = post_raw(service, "/contexts", json.dumps({"name": "bad", "examples": EXAMPLES} | body))
    assert_problem(response, 422, code, param)
    assert "battery" not in response.text


def test_context_that_is_too_long_is_told_both_counts(service: Service) -> None:
    response = service.post_context(model=TINY, examples=[*EXAMPLES, {**MINE, "text": "x" * CONTEXT_LENGTH}])
    assert_problem(response, 422, "context_too_long", f"/examples/{len(EXAMPLES)}/text")
    numbers = [int(word.strip(",;")) for word in response.json()["detail"].split() if word.strip(",;").isdecimal()]
    assert CONTEXT_LENGTH in numbers
    assert max(numbers) > CONTEXT_LENGTH


QUERIES: list[tuple[str, dict[str, Any], int, str, str | None]] = [
    ("unknown context", {"context": SECRET.replace(" ", "-")}, 404, "context_not_found", None),
    ("context is a surrogate", {"context": "\ud800"}, 422, "invalid_request", "/context"),
    ("context is a NUL", {"context": "\0"}, 404, "context_not_found", None),
    ("context is empty", {"context": ""}, 422, "invalid_request", "/context"),
    ("context is a list", {"context": [SECRET]}, 422, "invalid_request", "/context"),
    ("no inputs", {"inputs": []}, 422, "invalid_request", "/inputs"),
    ("inputs are a text", {"inputs": SECRET}, 422, "invalid_request", "/inputs"),
    ("input is a number", {"inputs": [SECRET, 7]}, 422, "invalid_request", "/inputs/1"),
    ("1,025 inputs", {"inputs": [SECRET] * 1_025}, 422, "too_many_inputs", "/inputs"),
    ("blank input", {"inputs": [SECRET, "\n"]}, 422, "text_empty", "/inputs/1"),
    ("input with a NUL", {"inputs": [SECRET + "\0"]}, 422, "text_invalid", "/inputs/0"),
    ("input with a surrogate", {"inputs": [SECRET + "\ud800"]}, 422, "text_invalid", "/inputs/0"),
    ("long input", {"inputs": [SECRET * 4_000]}, 422, "text_too_long", "/inputs/0"),
    ("unknown truncation", {"truncate": "end"}, 422, "invalid_request", "/truncate"),
    ("confidence over 1", {"min_confidence": 1.1}, 422, "invalid_request", "/min_confidence"),
    ("confidence is false", {"min_confidence": False}, 422, "invalid_request", "/min_confidence"),
    ("confidence is a text", {"min_confidence": "0.5"}, 422, "invalid_request", "/min_confidence"),
    ("confidence is no number", {"min_confidence": float("nan")}, 422, "invalid_request", "/min_confidence"),
    ("calibrated by too few", {"batch_calibration": True}, 422, "invalid_request", "/batch_calibration"),
    ("calibration is a text", {"batch_calibration": "yes"}, 422, "invalid_request", "/batch_calibration"),
    ("unknown field", {"top_k": SECRET}, 422, "invalid_request", "/top_k"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status", "code", "param"), [case[1:] for case in QUERIES], ids=[case[0] for case in QUERIES]
)
def test_bad_query_is_refused(
    service: Service, tuned: str, body: dict[str, Any], status: int, code: str, param: str | None
) -> None:
    response = post_raw(service, "/classify", json.dumps({"context": tuned, "inputs": TEXTS} | body))
    assert_problem(response, status, code, param)
    assert "battery" not in response.text


@pytest.mark.parametrize("path", ["/contexts", "/classify"])
@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 422, "invalid_request"),
        (b"null", 422, "invalid_request"),
        (b"[]", 422, "invalid_request"),
        (b'"text"', 422, "invalid_request"),
        (b"NaN", 422, "invalid_request"),
        (b"{", 400, "invalid_json"),
        (b"\xff\xfe\xfd", 400, "invalid_json"),
        (b"[" * 200_000, 400, "invalid_json"),
        (b'{"seed": ' + b"1" * 5_000 + b"}", 400, "invalid_json"),
    ],
)
def test_body_that_is_not_an_object_is_refused(
    service: Service, path: str, content: bytes, status: int, code: str
) -> None:
    assert_problem(post_raw(service, path, content), status, code)


@pytest.mark.parametrize("value", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"1" + b"0" * 400])
def test_number_that_is_not_finite_is_refused(service: Service, value: bytes) -> None:
    body = json.dumps({"examples": EXAMPLES, "hyperparameters": {"learning_rate": "?"}}).encode()
    response = post_raw(service, "/contexts", body.replace(b'"?"', value))
    assert_problem(response, 422, "invalid_request", "/hyperparameters/learning_rate")


def test_deeply_nested_value_is_refused(service: Service) -> None:
    body = json.dumps({"examples": EXAMPLES, "metadata": {"a": "?"}})
    response = post_raw(service, "/contexts", body.replace('"?"', '{"a":' * 500 + "1" + "}" * 500))
    assert_problem(response, 422, "invalid_request", "/metadata/a")


@pytest.mark.parametrize("path", ["/classify", "/jobs/job_1/cancel", "/nowhere"])
def test_body_over_8_mib_is_refused(service: Service, path: str) -> None:
    assert_problem(post_raw(service, path, b" " * (8 * 1024 * 1024 + 1)), 413, "body_too_large")


@pytest.mark.parametrize("path", ["/classify", "/v1/classify"])
def test_body_over_8_mib_that_did_not_say_so_is_refused(service: Service, path: str) -> None:
    parts = (b" " * 1024 * 1024 for _ in range(9))
    assert_problem(service.http.post(path, content=parts, headers=JSON), 413, "body_too_large")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_body_of_another_type_is_refused(service: Service, kind: str) -> None:
    body = json.dumps({"examples": EXAMPLES})
    assert_problem(post_raw(service, "/contexts", body, kind), 415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/contexts?limit=0", "/limit"),
        ("/contexts?limit=101", "/limit"),
        ("/jobs?limit=many", "/limit"),
        ("/contexts?status=PENDING", "/status"),
        ("/jobs?status=done", "/status"),
        ("/contexts?after=ctx_unknown", "/after"),
        ("/jobs?after=ctx_unknown", "/after"),
        ("/jobs/job_1?wait=nan", "/wait"),
        ("/jobs/job_1?wait=-1", "/wait"),
        ("/jobs/job_1?wait=61", "/wait"),
        ("/contexts?Status=queued", "/Status"),
        ("/contexts?limit=1&limit=2", "/limit"),
        ("/jobs?metadata[team]=cards", "/metadata[team]"),
    ],
)
def test_bad_query_parameter_is_refused(service: Service, path: str, param: str) -> None:
    assert_problem(service.http.get(path), 422, "invalid_request", param)


@pytest.mark.parametrize(
    "ref",
    ["unknown", "ctx_unknown", "shared@0", "shared@99", "shared@" + "1" * 5_000, "%00", "%ED%A0%80", "shared@prod"],
)
def test_ref_of_nothing_is_not_found(service: Service, tuned: str, ref: str) -> None:
    assert service.context("shared")["id"] == tuned
    for path in (f"/contexts/{ref}", f"/contexts/{ref}/examples"):
        response = service.http.get(path)
        assert (response.status_code, response.json()["code"]) == (404, "context_not_found")
    assert service.http.delete(f"/contexts/{ref}").status_code == (204 if ref.startswith("ctx_") else 422)


def test_context_is_deleted_by_its_id_alone(service: Service, tuned: str) -> None:
    assert_problem(service.http.delete("/contexts/shared"), 422, "invalid_request", "/ref")
    assert service.context("shared")["id"] == tuned


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/contexts", {"GET", "HEAD", "POST"}),
        ("POST", "/contexts/shared", {"GET", "HEAD", "PATCH", "DELETE"}),
        ("DELETE", "/jobs", {"GET", "HEAD"}),
        ("GET", "/jobs/job_1/cancel", {"POST"}),
        ("GET", "/classify", {"POST"}),
        ("POST", "/health/live", {"GET", "HEAD"}),
    ],
)
def test_method_that_a_route_does_not_have_is_refused(
    service: Service, method: str, path: str, allowed: set[str]
) -> None:
    response = service.http.request(method, path)
    assert_problem(response, 405, "method_not_allowed")
    assert set(response.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize(
    "path", ["/", "/nowhere", "/v2/contexts", "/contexts/", "/jobs/job_1/events/more", "/contexts/a/b"]
)
def test_unknown_route_is_not_found(service: Service, path: str) -> None:
    assert_problem(service.http.get(path), 404, "route_not_found")


def test_request_id_of_the_client_is_repeated(service: Service) -> None:
    for path, status in (("/health/live", 200), ("/nowhere", 404), ("/contexts?limit=0", 422)):
        response = service.http.get(path, headers={"x-request-id": "my-request.1"})
        assert (response.status_code, response.headers["x-request-id"]) == (status, "my-request.1")
    assert service.http.get("/health/live").headers["x-request-id"].startswith("req_")
