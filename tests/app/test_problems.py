import asyncio
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx
import pytest
import structlog
from fastapi import FastAPI
from pydantic import Field

from app.contract.messages import Failure
from app.contract.names import ErrorCode
from app.contract.payload import Payload
from app.errors import DomainError
from app.middleware.bodies import BodyMemory, BodyMiddleware
from app.middleware.request_ids import RequestIdMiddleware
from app.problems import QUOTA_RETRY_SECONDS, RETRY_AFTER_SECONDS, STATUS, install_error_handlers
from app.records.connection import StoreUnavailable
from app.routes.bodies import json_body


class Inner(Payload):
    number: int | None = None


class Square(Payload):
    type: Literal["square"]


class Circle(Payload):
    type: Literal["circle"]


class Body(Payload):
    inner: Inner = Inner()
    items: tuple[Inner, ...] = ()
    choice: int | Inner = 0
    needed: str = "here"
    shape: Annotated[Square | Circle, Field(discriminator="type")] | None = None


def failing_app(error: Exception) -> FastAPI:
    """An app whose one route raises ``error``; its other takes a `Body`."""
    app = FastAPI()
    install_error_handlers(app)
    app.add_middleware(BodyMiddleware, memory=BodyMemory(1_000_000), limit=lambda *_: 1_000_000, folder=Path())
    app.add_middleware(RequestIdMiddleware)

    @app.get("/fail")
    @app.get("/fail/{name}")
    def fail() -> None:
        raise error

    @app.post("/body")
    def take(body: Annotated[Body, json_body(Body)]) -> Body:
        return body

    return app


def answer(error: Exception, method: str = "GET", path: str = "/fail", **request: Any) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(failing_app(error), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            return await http.request(method, path, **request)

    return asyncio.run(ask())


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_code_is_a_problem_document_with_its_status(code: ErrorCode) -> None:
    response = answer(DomainError(code, "what was wrong", "/where"))
    status = response.status_code
    assert status == STATUS.get(code, 422)
    assert (status == 500) == (code in {ErrorCode.INTERNAL, ErrorCode.ARTIFACT_CORRUPT})
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"].startswith("req_")
    wait = QUOTA_RETRY_SECONDS if code == ErrorCode.QUOTA else RETRY_AFTER_SECONDS.get(status)
    assert response.headers.get("retry-after") == (None if wait is None else f"{wait:.0f}")
    assert response.json() == {
        "type": f"urn:contextune:problem:{code}",
        "title": response.json()["title"],
        "status": status,
        "detail": "what was wrong",
        "instance": "/fail",
        "code": code,
        "param": "/where",
        "request_id": response.headers["x-request-id"],
    }
    assert response.json()["title"]


def test_failure_of_a_worker_keeps_its_code_and_pointer() -> None:
    problem = DomainError.from_failure(Failure(code=ErrorCode.INPUT_TOO_LONG, message="too long", param="/inputs/3"))
    assert (problem.code, problem.detail, problem.param) == ("input_too_long", "too long", "/inputs/3")


def test_unexpected_error_tells_its_request_id_and_nothing_else() -> None:
    response = answer(RuntimeError("a secret"), headers={"x-request-id": "mine"})
    assert response.status_code == 500
    assert response.json()["code"] == "internal"
    assert response.json()["request_id"] == response.headers["x-request-id"] == "mine"
    assert "secret" not in response.text


def test_log_of_an_unexpected_error_names_its_route_and_no_word_of_a_user() -> None:
    with structlog.testing.capture_logs() as lines:
        assert answer(RuntimeError(), path="/fail/jane-doe").status_code == 500
    (line,) = [one for one in lines if one["event"] == "internal_error"]
    assert line["route"] == "/fail/{name}"
    assert "jane-doe" not in str(lines)


def test_store_that_does_not_answer_is_503() -> None:
    response = answer(StoreUnavailable("unix:///secret/path"))
    assert (response.status_code, response.json()["code"]) == (503, "store_unavailable")
    assert "secret" not in response.text


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"inner": {"number": "x"}}, "/inner/number"),
        ({"items": [{}, {"number": "x"}]}, "/items/1/number"),
        ({"items": [{}, 7]}, "/items/1"),
        ({"choice": "x"}, "/choice"),
        ({"inner": {"a/b~c": 1}}, "/inner/a~1b~0c"),
        ({"x" * 1000: 1}, "/" + "x" * 199),
        ([], None),
        (None, None),
    ],
)
def test_invalid_body_is_422_with_a_pointer(body: Any, param: str | None) -> None:
    response = answer(RuntimeError(), "POST", "/body", json=body)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    assert response.json()["param"] == param


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 100_000, b'{"needed": ' + b"1" * 5_000 + b"}"])
def test_what_is_not_json_is_400(content: bytes) -> None:
    response = answer(RuntimeError(), "POST", "/body", content=content, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (400, "invalid_json")


def test_unknown_routes_and_methods_are_problems_too() -> None:
    unknown = answer(RuntimeError(), path="/nowhere")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "route_not_found")
    other = answer(RuntimeError(), "DELETE")
    assert (other.status_code, other.json()["code"], other.headers["allow"]) == (405, "method_not_allowed", "GET, HEAD")


@pytest.mark.parametrize("kind", ["a private text", {"text": "a private text"}])
def test_kind_that_is_not_known_is_not_repeated(kind: object) -> None:
    response = answer(RuntimeError(), "POST", "/body", json={"shape": {"type": kind}})
    problem = response.json()
    assert (response.status_code, problem["param"]) == (422, "/shape/type")
    assert problem["detail"] == "/shape/type: must be one of 'square', 'circle'"
