"""``contextune doctor`` where the client is installed and the server is not."""

import json
from importlib.metadata import EntryPoints
from pathlib import Path
from typing import Any

import pytest
from contextune.cli import contributed
from contextune.version import VERSION

from tests.client.cli.conftest import Command
from tests.client.standin import StandIn, says

TINY = {"status": "ready", "workers": 2, "devices": [{"id": "cpu"}]}
READY = {"status": "ready", "checks": {"store": "ok", "bus": "ok", "models": {"tiny": TINY}}}
NO_KEY = {"code": "key_required", "status": 401, "title": "Key required", "detail": "this service asks for a key"}


@pytest.fixture(autouse=True)
def client_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment whose distributions add no command."""
    monkeypatch.setattr(contributed, "entry_points", lambda **_: EntryPoints())


def answers(service: StandIn, release: str = VERSION, ready: Any = READY, status: int = 200) -> None:
    service.always["/health/live"] = lambda _: says({"status": "ok"})
    service.always["/openapi.json"] = lambda _: says({"info": {"version": release}})
    service.always["/health/ready"] = lambda _: says(ready, status)
    service.always["/models"] = lambda seen: (
        says({"object": "list", "data": [], "has_more": False, "next": None})
        if seen.headers.get("authorization") == "Bearer ctk_good"
        else says(NO_KEY, 401)
    )


def findings(said: Any) -> dict[tuple[str, str], dict[str, Any]]:
    envelope = json.loads(said.out)
    assert envelope["ok"] is (said.status == 0)
    return {(one["check"], one["state"]): one for one in envelope["data"]["findings"]}


def test_service_that_lacks_nothing_is_told_with_what_was_not_looked_at(
    service: StandIn, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(service)
    monkeypatch.setenv("CONTEXTUNE_API_KEY", "ctk_good")
    said = command("doctor")
    assert said.status == 0
    for expected in (
        f"contextune {VERSION}",
        f"ok       address: {service.url} (CONTEXTUNE_URL)",
        "ok       key: that of CONTEXTUNE_API_KEY",
        f"release {VERSION}",
        "ok       workers: tiny: 2 ready on cpu",
        "ok       key: requests are allowed",
        "where contextune-server is installed",
    ):
        assert expected in said.out
    assert "ctk_good" not in said.out + said.err


def test_what_is_wrong_is_in_the_envelope_beside_the_findings(
    service: StandIn, command: Command, tmp_path: Path
) -> None:
    checks = {
        "store": "unavailable",
        "bus": "ok",
        "models": {"tiny": {"status": "loading", "workers": 0, "stage": "x"}},
    }
    answers(service, "9.9", {"status": "not_ready", "checks": checks}, 503)
    (tmp_path / "config.json").write_text('{"key": "ctk_secret"}')
    (tmp_path / "config.json").chmod(0o644)
    said = command("doctor", "--json")
    assert said.status == 1
    error = json.loads(said.out)["error"]
    assert (error["code"], error["exit_status"], error["message"]) == ("unhealthy", 1, "wrong: key, store, workers")
    found = findings(said)
    assert "release 9.9" in found["service", "warning"]["found"]
    assert found["store", "wrong"]["found"] == "the service says: unavailable"
    assert found["workers", "wrong"]["found"] == "tiny: loading, x"
    assert "CONTEXTUNE_API_KEY" in found["key", "wrong"]["mend"]
    assert "ctk_secret" not in said.out


@pytest.mark.parametrize(
    ("address", "found"), [("http://127.0.0.1:9", "does not answer"), ("", "what answers there is not this service")]
)
def test_what_is_not_there_or_is_another_is_said(
    service: StandIn, command: Command, monkeypatch: pytest.MonkeyPatch, address: str, found: str
) -> None:
    service.always["/health/live"] = lambda _: says({"hello": "there"})
    monkeypatch.setenv("CONTEXTUNE_URL", address or service.url)
    said = command("doctor", "--json")
    assert found in findings(said)["service", "wrong"]["found"]
    assert "--url" in findings(said)["service", "wrong"]["mend"]


def test_the_server_s_other_commands_say_what_to_install(command: Command) -> None:
    assert "pip install contextune-server" in command("backup", "x.tar").err
    assert command("--help").out.count("doctor") == 1
