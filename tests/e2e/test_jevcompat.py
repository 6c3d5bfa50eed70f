"""System One's door against an independent conformance suite, and doors of a service that asks for a key."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cohere
import cohere.errors
import openai
import pytest
import typesafe_sdk
from jevcompat import runner, spec
from typesafe_sdk import Noul, RetryPolicy, TypeSafeClient

from tests.e2e.service import Service
from tests.worker.tiny import causal_model, tokenizer

#: Tokens of 255 described options, a byte each.
_CONTEXT_LENGTH = 32_768


@pytest.fixture(scope="module")
def own_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose default model is tiny and reads long questions; open until its first key is made."""
    folder = tmp_path_factory.mktemp("wide")
    causal_model(context_length=_CONTEXT_LENGTH).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    models = json.dumps({"wide": {"path": str(folder), "device": "cpu"}})
    service = Service(tmp_path_factory.mktemp("service"), Path(folder), models=models)
    try:
        service.start()
        yield service
    finally:
        service.close()


def root(service: Service) -> str:
    return str(service.http.base_url).rstrip("/")


def key(service: Service, admin: str | None = None, **fields: object) -> str:
    headers = {"Authorization": f"Bearer {admin}"} if admin else {}
    made = service.http.post("/keys", json={"name": "door", "scopes": ["classify"], **fields}, headers=headers)
    assert made.status_code == 201, made.text
    return str(made.json()["key"])


def test_door_conforms_without_and_with_a_key(own_service: Service) -> None:
    url = root(own_service)
    open_run = runner.run(url)
    admin = key(own_service, scopes=["admin"])
    keyed_run = runner.run(url, key=key(own_service, admin), only={"auth"})
    passed = set()
    for report in (open_run, keyed_run):
        assert report.aborted is None
        assert (report.case_errors, report.inconclusive) == ([], [])
        failed = {
            one.id: [finding.message for finding in one.findings] for one in report.results if one.status == "fail"
        }
        assert failed == {}
        passed |= {one.id for one in report.results if one.status == "pass"}
    assert passed == set(spec.REQUIREMENTS)
    refused_by_every_client(own_service, key(own_service, admin, limits={"inputs_per_minute": 1}))


def refused_by_every_client(service: Service, slow: str) -> None:
    """A wrong key, then a key that may send one input a minute, each as the client's own exception with our words."""
    url, never = root(service), RetryPolicy(max_retries=0)
    question = {"q": Noul(instructions="Urgent?")}
    asked: Any = {"type": "predicate", "instructions": "Urgent?"}
    examples = [cohere.ClassifyExample(text=f"{label} {n}", label=label) for label in "ab" for n in range(2)]
    for secret, said, openais, typesafes, coheres in (
        (
            "wrong",
            "key",
            openai.AuthenticationError,
            typesafe_sdk.TypeSafeAuthenticationError,
            cohere.errors.UnauthorizedError,
        ),
        (
            slow,
            "used up",
            openai.RateLimitError,
            typesafe_sdk.TypeSafeRateLimitError,
            cohere.errors.TooManyRequestsError,
        ),
    ):
        with openai.OpenAI(base_url=f"{url}/v1", api_key=secret, max_retries=0) as open_ai:
            if secret == slow:
                open_ai.decisions.create(model="wide", input="a", questions=[asked])
            with pytest.raises(openais, match=said):
                open_ai.decisions.create(model="wide", input="a", questions=[asked])
        with (
            TypeSafeClient(base_url=url, api_key=secret, retry=never) as system_one,
            pytest.raises(typesafes, match=said),
        ):
            system_one.system_one(state="a", questions=question)
        with cohere.Client(api_key=secret, base_url=f"{url}/compat/cohere") as co, pytest.raises(coheres, match=said):
            co.classify(inputs=["a"], examples=examples, request_options={"max_retries": 0})
