"""The verbs for what the service keeps: contexts, aliases, adapters, jobs, batches, keys; and the settings."""

import json
import re
import stat
from pathlib import Path
from typing import Any

import pytest
import typer
from contextune.cli.application import application

from tests.client.answers import AT, context, ended, job
from tests.client.cli.conftest import Command
from tests.client.command import contextune
from tests.client.standin import Seen, StandIn, says, streams


def listing(*items: Any) -> Any:
    return says({"object": "list", "data": list(items), "has_more": False, "next": None})


def only(service: StandIn) -> Seen:
    (seen,) = service.seen
    return seen


def test_contexts_are_listed(service: StandIn, command: Command) -> None:
    service.then(listing(context(aliases=["prod"]), context(id="ctx_2", name=None, status="failed")))
    said = command("contexts", "list", "--status", "succeeded", "--limit", "5")
    heads, first, second = said.out.splitlines()
    assert heads.split() == ["ref", "status", "aliases", "labels", "accuracy", "created", "id", "model"]
    assert first.startswith("intents@1  succeeded  prod")
    assert second.startswith("ctx_2      failed")
    assert only(service).query == {"status": "succeeded", "limit": "5"}


def test_context_that_failed_says_why(service: StandIn, command: Command) -> None:
    service.then(says(context(status="failed", error={"code": "worker_lost", "message": "three workers died"})))
    assert "failed: three workers died [worker_lost]" in command("contexts", "show", "intents@1").out


def test_metadata_is_filtered_by_and_changed(service: StandIn, command: Command) -> None:
    service.then(listing(), says(context(metadata={"team": "cards", "note": "a=b"})))
    command("contexts", "list", "--metadata", "team=cards", "--metadata", "note=a=b")
    assert service.seen[0].query == {"metadata[team]": "cards", "metadata[note]": "a=b", "limit": "20"}
    said = command("contexts", "update", "ctx_1", "--metadata", "note=a=b", "--remove-metadata", "old")
    assert "metadata: team=cards, note=a=b\n" in said.out
    assert (service.seen[1].method, service.seen[1].path) == ("PATCH", "/contexts/ctx_1")
    assert json.loads(service.seen[1].body) == {"metadata": {"note": "a=b", "old": None}}


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "--metadata", "team"),
        ("list", "--metadata", "=cards"),
        ("list", "--metadata", "a=1", "--metadata", "a=2"),
        ("update", "ctx_1"),
        ("update", "ctx_1", "--metadata", "a=1", "--remove-metadata", "a"),
        ("update", "intents", "--metadata", "a=1"),
    ],
)
def test_metadata_that_is_none_is_a_wrong_argument(
    service: StandIn, command: Command, arguments: tuple[str, ...]
) -> None:
    assert command("contexts", *arguments).status == 2
    assert service.seen == []


def test_examples_are_printed(service: StandIn, command: Command) -> None:
    service.then(listing({"text": "is it?", "label": "yes"}))
    assert command("contexts", "examples", "intents").out.splitlines()[1] == "/examples/0  yes    is it?"


@pytest.mark.parametrize(
    ("arguments", "method", "path"),
    [
        (("contexts", "delete", "ctx_1"), "DELETE", "/contexts/ctx_1"),
        (("jobs", "delete", "job_1"), "DELETE", "/jobs/job_1"),
        (("alias", "delete", "intents", "prod"), "DELETE", "/contexts/intents/aliases/prod"),
        (("keys", "delete", "key_1"), "DELETE", "/keys/key_1"),
        (("webhooks", "delete", "whk_1"), "DELETE", "/webhooks/whk_1"),
    ],
)
def test_what_is_deleted(
    service: StandIn, command: Command, arguments: tuple[str, ...], method: str, path: str
) -> None:
    service.then(says(None, 204), says(None, 204))
    assert command(*arguments).out == ""
    assert command(*arguments, "--json").data["deleted"] is True
    assert (service.seen[0].method, service.seen[0].path) == (method, path)


def test_a_tenant_is_being_deleted_for_a_while(service: StandIn, command: Command) -> None:
    service.then(says(None, 204))
    assert command("tenants", "delete", "acme", "--json").data == {"id": "acme", "status": "deleting"}
    assert (service.seen[0].method, service.seen[0].path) == ("DELETE", "/tenants/acme")


def test_alias_is_moved(service: StandIn, command: Command) -> None:
    service.then(says({"name": "intents", "alias": "prod", "version": 3, "previous_version": 2, "resident": True}))
    asked = ("alias", "set", "intents", "prod", "3", "--if-version", "2", "--not-worse-than", "prod")
    assert command(*asked).out == "intents@prod → intents@3 (was 2)\n"
    body = {"version": 3, "require": {"not_worse_than": "prod"}}
    assert (only(service).headers["if-match"], json.loads(only(service).body)) == ('"2"', body)


def test_adapter_is_exported_and_imported(service: StandIn, command: Command, tmp_path: Path) -> None:
    path = tmp_path / "intents.zip"
    service.then(streams("PK", media_type="application/zip"), says({"context": context(), "job": None}, 201))
    assert command("export", "intents", str(path)).out == f"{path} (2 bytes)\n"
    assert command("import", str(path), "--labels", "yes", "--labels", "no").out == "intents@1\n"
    assert b'[{"name": "yes"}, {"name": "no"}]' in service.seen[1].body


def test_adapter_that_is_not_there_is_told(command: Command) -> None:
    assert command("import", "absent.zip").err == "Error: absent.zip: there is no such file\n"


def test_jobs_are_listed_and_shown(service: StandIn, command: Command) -> None:
    service.then(listing(job()), says(ended("failed", error={"code": "internal", "message": "oh"})))
    said = command("jobs", "list", "--kind", "tuning", "--context", "ctx_1")
    assert said.out.splitlines()[1].startswith("job_1  tuning  running   25%")
    assert service.seen[0].query == {"kind": "tuning", "context": "ctx_1", "limit": "20"}
    assert "error     oh [internal]" in command("jobs", "show", "job_1").out


def test_job_is_waited_for(service: StandIn, command: Command) -> None:
    service.then(says(job()), says(job()), says(ended()))
    service.always["/jobs/job_1/events"] = lambda _: listing()
    assert command("jobs", "wait", "job_1", "--json").data["status"] == "succeeded"
    service.then(says(job()), says(ended("cancelled")))
    assert command("jobs", "wait", "job_1").status == 7


def test_events_are_printed_as_they_happen(service: StandIn, command: Command) -> None:
    def event(number: int, kind: str, **data: Any) -> str:
        body = {"id": str(number), "type": kind, "created_at": AT, "data": data}
        return f"data: {json.dumps(body)}\n\n"

    service.then(streams(event(1, "metrics", loss=0.5), event(2, "status", status="succeeded")))
    lines = [json.loads(line) for line in command("jobs", "events", "job_1").out.splitlines()]
    assert [(line["id"], line["data"]) for line in lines] == [("1", {"loss": 0.5}), ("2", {"status": "succeeded"})]


def test_batch_is_sent_waited_for_and_read(service: StandIn, command: Command, tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "a"}\n')
    counts = {"total": 1, "done": 1, "failed": 0}
    done = ended(kind="batch", counts=counts, report=None, expires_at=AT)
    service.then(says(job(kind="batch"), 202), says(done), says(done))
    said = command("batch", "create", "intents", str(path), "--min-confidence", "0.5")
    assert "done      1" in said.out
    assert service.seen[0].query == {"context": "intents", "truncate": "END", "min_confidence": "0.5"}
    line = json.dumps(
        {"index": 0, "id": None, "prediction": "yes", "confidence": 0.9, "abstained": False, "labels": {}}
    )
    assert said.err.endswith("\nRead the results: contextune batch results job_1\n")
    service.then(says(done), streams(line + "\n"))
    read = command("batch", "results", "job_1")
    assert (json.loads(read.out)["prediction"], read.err) == ("yes", "")


def test_events_that_there_are_may_be_listed_of_a_job_that_runs(service: StandIn, command: Command) -> None:
    events = [{"id": str(number), "type": "metrics", "created_at": AT, "data": {"loss": 0.5}} for number in (1, 2)]
    service.then(listing(*events), listing(*events))
    printed = command("jobs", "events", "job_1", "--no-follow").out.splitlines()
    assert [json.loads(line)["id"] for line in printed] == ["1", "2"]
    assert [one["id"] for one in command("jobs", "events", "job_1", "--no-follow", "--json").data] == ["1", "2"]
    assert service.seen[0].headers["accept"] == "application/json"


def test_job_that_is_not_cancelled_at_once_is_said_to_go_on(service: StandIn, command: Command) -> None:
    service.then(says(job(cancel_requested=True)), says(ended("cancelled")))
    waits = "`contextune jobs wait job_1` waits for it."
    assert command("jobs", "cancel", "job_1").err == f"The job is running until its next pause; {waits}\n"
    assert command("jobs", "cancel", "job_1").err == ""


@pytest.mark.parametrize(
    ("verb", "method"), [(("delete",), "DELETE"), (("update", "--metadata", "a=1"), "PATCH")], ids=["delete", "update"]
)
def test_version_of_a_name_is_deleted_and_changed_by_its_id(
    service: StandIn, command: Command, verb: tuple[str, ...], method: str
) -> None:
    service.then(says(context(id="ctx_7")), says(context(id="ctx_7")))
    assert command("contexts", *verb, "intents@1").status == 0
    assert [(seen.method, seen.path) for seen in service.seen] == [
        ("GET", "/contexts/intents@1"),
        (method, "/contexts/ctx_7"),
    ]


@pytest.mark.parametrize("ref", ["intents", "intents@prod"])
def test_what_may_mean_another_version_tomorrow_is_not_deleted(service: StandIn, command: Command, ref: str) -> None:
    said = command("contexts", "delete", ref, "--json")
    assert (said.status, service.seen) == (2, [])
    assert f"'{ref}' is neither name@version nor an id; `contextune contexts list` shows both" in said.data["message"]


def test_key_is_shown_once_and_listed_without_its_secret(service: StandIn, command: Command) -> None:
    key = {"id": "key_1", "name": "ci", "scopes": ["classify"], "tenant": "default", "key": "ctk_secret"}
    service.then(says(key, 201), says(key, 201), listing({**key, "key": None}))
    said = command("keys", "create", "ci", "--scope", "classify", "--expires-at", "2027-01-01")
    assert said.out == "ctk_secret\n"
    body = json.loads(service.seen[0].body)
    assert (body["name"], body["scopes"], body["expires_at"][:10]) == ("ci", ["classify"], "2027-01-01")
    assert command("keys", "create", "ci", "--scope", "classify", "--json").data["key"] == "ctk_secret"
    assert "ctk_secret" not in command("keys", "list", "--tenant", "default").out
    assert service.seen[-1].query == {"tenant": "default", "limit": "100"}


def test_settings_are_remembered_in_a_file_of_their_owner(
    service: StandIn, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CONTEXTUNE_URL")
    assert command("config", "set", "url", service.url).status == 0
    assert command("config", "set", "key", "ctk_0123456789").status == 0
    assert stat.S_IMODE((tmp_path / "config.json").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    shown = command("config", "show").out
    assert service.url in shown
    assert "ctk_0123…" in shown
    assert "ctk_0123456789" not in shown
    service.then(listing())
    assert command("models").status == 0
    assert only(service).headers["authorization"] == "Bearer ctk_0123456789"
    assert command("config", "unset", "key").status == 0
    assert command("config", "show", "--json").data["key"] is None


def test_settings_that_are_none_are_told(command: Command, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    said = command("models")
    assert said.status == 1
    assert said.err.startswith(f"Error: {tmp_path / 'config.json'} cannot be read")


def test_url_of_the_command_line_comes_before_the_environment(command: Command) -> None:
    assert "http://127.0.0.1:9 does not answer" in command("--url", "http://127.0.0.1:9", "models").err


def test_help_names_every_exit_status(command: Command) -> None:
    said = command("--help").out
    assert all(f"{status} " in said for status in (*range(10), 130))


def test_without_its_packages_the_command_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util\n"
        "found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'typer' else found(name, *rest)\n"
    )
    result = contextune("models", path=tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "The command line needs two more packages: pip install 'contextune[cli]'\n"


def test_every_verb_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "command-line.md").read_text()
    root: Any = typer.main.get_command(application())
    for name, verb in root.commands.items():
        if not verb.hidden and name != "version":
            assert re.search(rf"`{name}\b", page), name
        for inner, each in getattr(verb, "commands", {}).items():
            if not each.hidden:
                assert re.search(rf"`{name} [^`]*\b{inner}\b", page), f"{name} {inner}"


def test_every_exit_status_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "command-line.md").read_text()
    assert re.findall(r"^\| (\d+) \|", page, re.MULTILINE) == [str(status) for status in (*range(10), 130)]
