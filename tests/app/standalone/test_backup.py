"""The commands `backup` and `restore`, on embedded stores that do not run."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.contract.names import artifact_url
from app.records.connection import connect
from app.records.files import read_file
from app.records.store import Records
from app.standalone.embedded import EmbeddedServer
from tests.app.records.steps import submit
from tests.waiting import eventually


def contextune(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CONTEXTUNE_")}
    command = [sys.executable, "-m", "contextune.cli", *arguments]
    environment = {**kept, "CONTEXTUNE_DATA_DIR": str(data_dir)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def said(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A data folder with one context, whose store does not run."""
    server = EmbeddedServer.store(tmp_path / "here")
    server.start()
    eventually(server.answers)
    client = connect(server.url)
    submit(Records(client, artifacts_url=f"file://{tmp_path}/here/artifacts"), "intents")
    client.close()
    server.stop()
    return tmp_path / "here"


def test_backup_of_one_folder_is_restored_into_another(installed: Path, tmp_path: Path) -> None:
    file = str(tmp_path / "backup.tar")
    made = contextune(installed, "backup", file, "--json")
    assert made.returncode == 0, made.stderr
    assert said(made)["data"]["artifacts"] == 1
    restored = contextune(tmp_path / "there", "restore", file)
    assert restored.returncode == 0, restored.stderr
    assert restored.stdout.startswith("restored: ")
    there = EmbeddedServer.store(tmp_path / "there")
    there.start()
    eventually(there.answers)
    client = connect(there.url)
    found = (
        Records(client, artifacts_url=f"file://{tmp_path}/there/artifacts").of("default").contexts.resolve("intents")
    )
    assert found is not None
    assert (address := client.hget(f"{{ct}}:t:default:context:{found.context.id}", "spec"))
    assert read_file(artifact_url(f"file://{tmp_path}/there/artifacts", str(address)))
    client.close()
    there.stop()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("backup", "{here}"), "is there already"),
        (("restore", "{here}/nothing"), "No such file"),
        (("restore", "{here}/store/lock"), "is no backup, or damaged"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(installed: Path, arguments: tuple[str, str], reason: str) -> None:
    words = [word.format(here=installed) for word in arguments]
    done = contextune(installed, *words)
    assert done.returncode == 1
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1
    as_json = contextune(installed, *words, "--json")
    error = said(as_json)["error"]
    assert (error["code"], error["exit_status"]) == ("failed", 1)
    assert reason in error["message"]
    assert as_json.returncode == 1


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_files_that_are_missing_are_said_and_fail_the_command(
    installed: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    (lost,) = (path for path in (installed / "artifacts").rglob("*") if path.is_file())
    lost.unlink()
    file = tmp_path / "backup.tar"
    made = contextune(installed, "backup", str(file), *options)
    assert made.returncode == 1
    assert made.stderr.splitlines() == [f"Error: missing or damaged, and left out of {file}: {lost.name}"]
    assert contextune(tmp_path / "there", "restore", str(file)).returncode == 0


def test_folder_with_records_is_not_restored_into(installed: Path, tmp_path: Path) -> None:
    file = str(tmp_path / "backup.tar")
    assert contextune(installed, "backup", file).returncode == 0
    done = contextune(installed, "restore", file)
    assert done.returncode == 1
    assert "the store is not empty" in done.stderr
