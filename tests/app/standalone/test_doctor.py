"""The command `doctor`, on installations that lack something."""

import json
import os
import shutil
import socket
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import redis
from typer.testing import CliRunner

from app.admin.doctor import examine
from app.config import Settings
from app.contract.announcements import ANNOUNCE, KEYS
from app.contract.messages import Announcement
from app.standalone.doctor import cli
from app.standalone.embedded import EmbeddedServer
from worker.identity import fingerprint
from worker.unpacking import unpacked

NAMES = (
    "STORE_URL",
    "BUS_URL",
    "DATA_DIR",
    "MODELS",
    "AUTH",
    "HOST",
    "PORT",
    "ARTIFACTS_URL",
    "DEVICES",
    "URL",
    "API_KEY",
)


def examined(monkeypatch: pytest.MonkeyPatch, **settings: str) -> tuple[int, dict[tuple[str, str], Any]]:
    """Exit status, and what is wrong or doubtful by check and state."""
    for name in NAMES:
        monkeypatch.delenv(f"CONTEXTUNE_{name}", raising=False)
    monkeypatch.setenv("CONTEXTUNE_CONFIG", "/nowhere")
    for name, value in settings.items():
        monkeypatch.setenv(f"CONTEXTUNE_{name}", value)
    done = CliRunner().invoke(cli, ["--json"])
    envelope = json.loads(done.stdout)
    assert envelope["ok"] is (done.exit_code == 0)
    return done.exit_code, {(one["check"], one["state"]): one for one in envelope["data"]["findings"]}


def announce(bus_url: str, **changes: Any) -> None:
    """Announce a worker of the default model."""
    one = Announcement(worker_id="w1", model="smollm2-135m-instruct", ready=True, **changes)
    with redis.Redis.from_url(bus_url) as client:
        client.eval(ANNOUNCE, len(KEYS), *KEYS, 60_000, "here", one.model, one.model_dump_json())


def test_installation_that_lacks_nothing(
    store_url: str, bus_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    announce(bus_url, release="0.1")
    status, found = examined(monkeypatch, STORE_URL=store_url, BUS_URL=bus_url, DATA_DIR=str(tmp_path))
    assert status == 0
    assert found["artifacts", "ok"]["found"] == "written, read and removed"
    assert "1 ready" in found["workers", "warning"]["found"]
    assert "of release 0.1" in found["workers", "warning"]["found"]
    assert list((tmp_path / "artifacts").rglob("*.*")) == []


def test_servers_that_do_not_answer_are_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"unix://{tmp_path}/secret-password.sock"
    status, found = examined(monkeypatch, STORE_URL=url, BUS_URL=url, DATA_DIR=str(tmp_path))
    assert status == 1
    assert "CONTEXTUNE_STORE_URL" in found["store", "wrong"]["mend"]
    assert "CONTEXTUNE_BUS_URL" in found["bus", "wrong"]["mend"]
    assert ("workers", "wrong") in found
    assert "secret-password" not in json.dumps([*found.values()])


def test_store_that_may_lose_records_and_places_that_cannot_be_used(
    own_store: EmbeddedServer, bus_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis.Redis.from_url(own_store.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    urls = {"STORE_URL": own_store.url, "BUS_URL": bus_url, "ARTIFACTS_URL": "unheard-of://bucket"}
    status, found = examined(monkeypatch, **urls, DATA_DIR=str(tmp_path), AUTH="off")
    assert status == 1
    assert "may evict records" in found["store", "wrong"]["found"]
    assert "CONTEXTUNE_ARTIFACTS_URL" in found["artifacts", "wrong"]["mend"]
    assert "no worker" in found["workers", "wrong"]["found"]
    assert "whoever reaches the service" in found["access", "warning"]["found"]


def test_places_without_room_or_permission_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = f"unix://{tmp_path}/none.sock"
    urls = {"STORE_URL": nowhere, "BUS_URL": nowhere}
    status, found = examined(monkeypatch, **urls, DATA_DIR="/proc/1/data", ARTIFACTS_URL="file:///dev/null/artifacts")
    assert status == 1
    assert found["disk", "wrong"]["found"].endswith(" cannot be written")
    assert found["artifacts", "wrong"]["found"].endswith(": Not a directory")
    assert not [one for one in found.values() if "could not be checked" in one["found"]]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))
    _, found = examined(monkeypatch, **urls, DATA_DIR=str(tmp_path))
    assert "0.0 GiB free" in found["disk", "wrong"]["found"]


def test_first_key_that_others_can_read_is_wrong(
    store_url: str, bus_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "admin-key").write_text("ctk_secret")
    (tmp_path / "admin-key").chmod(0o644)
    urls = {"STORE_URL": store_url, "BUS_URL": bus_url}
    _, found = examined(monkeypatch, **urls, DATA_DIR=str(tmp_path), HOST="0.0.0.0")
    assert found["access", "wrong"]["mend"] == f"chmod 600 {tmp_path}/admin-key"
    assert "plain HTTP" in found["access", "warning"]["found"]


def test_another_program_on_the_port_is_named(
    store_url: str, bus_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = {"STORE_URL": store_url, "BUS_URL": bus_url, "DATA_DIR": str(tmp_path)}
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        status, found = examined(monkeypatch, **urls, PORT=port)
    assert status == 1
    assert "CONTEXTUNE_PORT" in found["port", "wrong"]["mend"]
    _, found = examined(monkeypatch, **urls, PORT=port)
    assert found["port", "ok"]["found"].endswith("is free: the service does not run")


def test_system_that_tells_no_available_memory_is_not_wrong(tmp_path: Path) -> None:
    nowhere = f"unix://{tmp_path}/none.sock"
    found = examine(Settings(data_dir=tmp_path), nowhere, nowhere, proc=tmp_path / "absent-as-on-macos")
    assert ("memory", "ok") in {(one.check, one.state) for one in found}


def test_driver_is_named_beside_what_pytorch_was_built_for(tmp_path: Path) -> None:
    nowhere = f"unix://{tmp_path}/none.sock"

    def drivers(*devices: str) -> Any:
        settings = Settings(data_dir=tmp_path, devices=devices)
        found = examine(settings, nowhere, nowhere, proc=tmp_path)
        return next(one for one in found if one.check == "driver")

    assert (drivers("auto").state, drivers("cuda:1").state) == ("ok", "wrong")
    assert f"PyTorch {version('torch')}" in drivers("auto").found
    (tmp_path / "driver" / "nvidia").mkdir(parents=True)
    (tmp_path / "driver" / "nvidia" / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.1\n")
    assert drivers("cuda:1").found.startswith("NVIDIA UNIX x86_64 Kernel Module 570.1; PyTorch ")


def test_file_of_a_model_that_is_damaged_is_named(
    store_url: str, bus_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"weights")
    noted = fingerprint([weights], tmp_path / "models", lambda: None)
    assert noted
    where = {"STORE_URL": store_url, "BUS_URL": bus_url, "DATA_DIR": str(tmp_path)}
    _, found = examined(monkeypatch, **where)
    assert "have the SHA-256 they should have" in found["models", "ok"]["found"]
    before = weights.stat()
    weights.write_bytes(b"weightz")
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    status, found = examined(monkeypatch, **where)
    assert status == 1
    assert found["models", "wrong"]["found"] == f"{weights} is damaged: its SHA-256 is another"


def test_unpacked_files_that_are_damaged_or_gone_are_named_with_the_folder_to_remove(
    store_url: str, bus_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unpack(folder: Path) -> None:
        folder.mkdir(parents=True)
        for name in ("config.json", "model.safetensors"):
            (folder / name).write_text(name)

    folder = unpacked("tiny", "hash", tmp_path / "models", unpack)
    where = {"STORE_URL": store_url, "BUS_URL": bus_url, "DATA_DIR": str(tmp_path)}
    assert ("models", "ok") in examined(monkeypatch, **where)[1]
    (folder / "model.safetensors").write_text("model.safetensorz")
    status, found = examined(monkeypatch, **where)
    assert status == 1
    assert found["models", "wrong"]["found"] == f"{folder}/model.safetensors is damaged: its SHA-256 is another"
    assert f"remove {folder} and start anew" in found["models", "wrong"]["mend"]
    (folder / "model.safetensors").unlink()
    _, found = examined(monkeypatch, **where)
    assert found["models", "wrong"]["found"] == f"{folder}/model.safetensors is missing"


def test_how_the_store_keeps_what_it_is_given_is_shown(
    own_store: EmbeddedServer, bus_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(data_dir=tmp_path)

    def kept() -> Any:
        found = examine(settings, own_store.url, bus_url)
        return next(one for one in found if one.check == "store" and "appendonly" in one.found)

    assert kept().found.startswith("appendonly yes, appendfsync always; uses ")
    assert kept().state == "ok"
    with redis.Redis.from_url(own_store.url) as client:
        client.config_set("maxmemory", 0)
        assert "maxmemory 0, which is no bound" in kept().found
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 50_000)
    assert kept().state == "warning"
    assert "of maxmemory " in kept().found


def test_setting_of_the_wrong_form_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    status, found = examined(monkeypatch, PORT="70000")
    assert status == 1
    assert found["settings", "wrong"]["found"].startswith("CONTEXTUNE_PORT: ")


def test_people_read_what_to_do_below_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STORE_URL", "BUS_URL"):
        monkeypatch.setenv(f"CONTEXTUNE_{name}", f"unix://{tmp_path}/none.sock")
    monkeypatch.setenv("CONTEXTUNE_DATA_DIR", str(tmp_path))
    done = CliRunner().invoke(cli)
    assert done.exit_code == 1
    assert "WRONG    store: it does not answer\n         start it with `contextune up`" in done.stdout
