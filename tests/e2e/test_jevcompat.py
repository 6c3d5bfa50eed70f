"""System One's door against an independent conformance suite, and doors of a service that asks for a key."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from jevcompat import runner, spec

from tests.e2e.other_clients import CLIENTS
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
    refused_by_every_client(own_service, admin)


def refused_by_every_client(service: Service, admin: str) -> None:
    """A wrong key, then one that may send one input a minute, each as the client's own exception with our words."""
    for client in CLIENTS:
        ask = partial(client.ask, root(service), text="a", model="wide", labels=("card", "loan"), shown=True)
        with pytest.raises(client.errors[401], match="key"):
            ask("wrong")
        slow = key(service, admin, limits={"inputs_per_minute": 1})
        assert ask(slow)
        with pytest.raises(client.errors[429], match="used up"):
            ask(slow)
