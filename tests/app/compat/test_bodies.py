"""What no door reads, wherever it stands in a body: each refusal has its vendor's shape and says where."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.compat.bodies import MAX_DEPTH
from app.config import Settings
from tests.app.gateway import ask

SURROGATE = "\ud800"
CHOICE = {"type": "choice", "instructions": "which?", "choices": [{"value": "x"}, {"value": "y"}]}
SCORE = {"type": "score", "instructions": "which?", "levels": [{"label": "x"}, {"label": "y"}]}
NAN, BEYOND = float("nan"), 1e400


@pytest.fixture
def settings(store_url: str, bus_url: str, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, store_url=store_url, bus_url=bus_url, models=("tiny",))


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


def decision(**fields: Any) -> dict[str, Any]:
    return {"model": "tiny", "input": "hello", "questions": [CHOICE], **fields}


def system_one(criteria: Any = None, **fields: Any) -> dict[str, Any]:
    question = {"type": "choice" if isinstance(criteria, dict) else "score", "criteria": criteria or ["x", "y"]}
    return {"model": "tiny", "state": "hello", "questions": {"q": question}, **fields}


def said(data: Any) -> list[Any]:
    return [{"role": "user", "content": [{"type": "input_json", "data": data}]}]


DECISIONS: list[tuple[dict[str, Any], str]] = [
    (decision(questions=[{**CHOICE, "name": SURROGATE}]), "/questions/0/name"),
    (decision(questions=[{**CHOICE, "choices": [{"value": SURROGATE}]}]), "/questions/0/choices/0/value"),
    (decision(questions=[{**SCORE, "levels": [{"label": SURROGATE}]}]), "/questions/0/levels/0/label"),
    (decision(questions=[{**SCORE, "levels": [{"label": "a\0"}]}]), "/questions/0/levels/0/label"),
    (decision(input=[{"role": SURROGATE, "content": "x"}, {"role": "user", "content": "y"}]), "/input/0/role"),
    (decision(input=said({"v": NAN})), "/input/0/content/0/data/v"),
    (decision(input=said(nested(MAX_DEPTH))), "/input/0/content/0/data" + "/0" * (MAX_DEPTH - 5)),
    (decision(model=f"{SURROGATE}=tiny,*=tiny"), "/model"),
    (decision(prompt_cache_options={"a": {SURROGATE: 1}}), "/prompt_cache_options/a"),
]
SYSTEM_ONES: list[tuple[dict[str, Any], str]] = [
    (system_one([["x", NAN], ["y"]]), "/questions/q/criteria/0/1"),
    (system_one([["x", BEYOND], ["y"]]), "/questions/q/criteria/0/1"),
    (system_one([[NAN]]), "/questions/q/criteria/0/0"),
    (system_one([SURROGATE]), "/questions/q/criteria/0"),
    (system_one({SURROGATE: None}), "/questions/q/criteria"),
    (system_one({"a/b": f"\0{SURROGATE}"}), "/questions/q/criteria/a~1b"),
    (system_one(["x", nested(700)]), "/questions/q/criteria/1" + "/0" * (MAX_DEPTH - 5)),
    (system_one(state={"v": NAN}), "/state/v"),
    (system_one(state={"x" * 300: NAN}), ("/state/" + "x" * 300)[:200]),
    (system_one(newer={"v": NAN}), "/newer/v"),
]
COHERE: list[tuple[dict[str, Any], str]] = [
    ({"model": "tiny", "inputs": [SURROGATE]}, "/inputs/0"),
    ({"model": "tiny", "inputs": ["x"], "newer": BEYOND}, "/newer"),
]


@pytest.mark.parametrize(
    ("path", "cases"),
    [
        ("/v1/decisions", DECISIONS),
        ("/decisions", DECISIONS),
        ("/v1/systemone", SYSTEM_ONES),
        ("/v1/decisions", SYSTEM_ONES),
        ("/compat/cohere/v1/classify", COHERE),
    ],
)
def test_what_is_no_finite_number_or_text_or_too_deep_is_refused(
    settings: Settings, path: str, cases: list[tuple[dict[str, Any], str]]
) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        for body, param in cases:
            answer = await http.post(path, content=json.dumps(body), headers={"content-type": "application/json"})
            problem = answer.json()
            assert (answer.status_code, problem["param"]) == (422, param[:200]), body
            if "state" in body:
                assert problem["detail"][0]["msg"] == problem["title"]
            elif "questions" in body:
                assert problem["error"]["param"] == problem["param"]
            else:
                assert problem["message"] == problem["detail"]

    ask(settings, scenario)


def test_body_of_the_greatest_depth_is_read(settings: Settings) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        body = system_one(state=nested(MAX_DEPTH - 1)) | {"model": "no-such-model"}
        answer = await http.post("/v1/systemone", json=body)
        assert answer.status_code == 404

    ask(settings, scenario)
