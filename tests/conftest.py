"""Real embedded servers for every test that needs a store or a bus."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from app.contract.names import DEFAULT_TENANT
from app.records.connection import connect
from app.records.store import Records, TenantRecords
from app.standalone.embedded import EmbeddedServer
from app.telemetry.logs import configure_logging
from tests.waiting import eventually

#: Not part of the suite: a GPU runs them, by `make test-gpu`.
collect_ignore = ["gpu"]
#: What the temporary folders of a run never fill.
_ROOMY_BYTES = 2**31


def pytest_configure() -> None:
    """Keep temporary folders on a disk in memory where there is one, as each write to a store waits for the disk."""
    if disk := _memory_disk():
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(disk))


def _memory_disk() -> Path | None:
    """A disk in memory with ample room, if the system has one."""
    disk = Path("/dev/shm")
    writable = disk.is_dir() and os.access(disk, os.W_OK)
    return disk if writable and shutil.disk_usage(disk).free > _ROOMY_BYTES else None


@pytest.fixture(scope="session", autouse=True)
def _logging() -> None:
    configure_logging("INFO")


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EmbeddedServer, EmbeddedServer]]:
    """A store and a bus for the whole run."""
    folder = tmp_path_factory.mktemp("servers")
    store, bus = EmbeddedServer.store(folder), EmbeddedServer.bus(folder)
    for server in (store, bus):
        server.start()
    for server in (store, bus):
        eventually(server.answers)
    yield store, bus
    for server in (store, bus):
        server.stop()


@pytest.fixture
def store_url(servers: tuple[EmbeddedServer, EmbeddedServer]) -> str:
    """The store, empty."""
    return _emptied(servers[0])


@pytest.fixture
def bus_url(servers: tuple[EmbeddedServer, EmbeddedServer]) -> str:
    """The bus, empty."""
    return _emptied(servers[1])


def _emptied(server: EmbeddedServer) -> str:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    return server.url


@pytest.fixture
def client(store_url: str) -> Iterator[redis.Redis]:
    """A client of the store."""
    client = connect(store_url)
    yield client
    client.close()


@pytest.fixture
def records(client: redis.Redis, tmp_path: Path) -> Records:
    """The records in an empty store, with their bodies where the settings of a test's processes have the artifacts."""
    return Records(client, artifacts_url=f"file://{tmp_path}/artifacts")


@pytest.fixture
def tenant(records: Records) -> TenantRecords:
    """The records of the default tenant."""
    return records.of(DEFAULT_TENANT)


@pytest.fixture(scope="session")
def models(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where workers keep unpacked models, from one run to the next."""
    cache = getattr(pytestconfig, "cache", None)
    return Path(cache.mkdir("models") if cache else tmp_path_factory.mktemp("models"))


@pytest.fixture
def own_store(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A store of the test's own, to be configured, stopped and started."""
    server = EmbeddedServer.store(tmp_path)
    server.start()
    eventually(server.answers)
    yield server
    server.stop()


@pytest.fixture
def another_server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A bus of the test's own, to be stopped and started."""
    server = EmbeddedServer.bus(tmp_path)
    server.start()
    eventually(server.answers)
    yield server
    server.stop()
