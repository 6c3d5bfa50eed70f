"""The processes of the whole service on one machine, in the order of their start.

Owns their commands, environments, places and logs. Knows neither how they are watched nor what the user is told.
"""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.config import Settings
from app.contract.announcements import KEYS, WITHDRAW
from app.standalone.children import Child, ChildError, ChildProcess
from app.standalone.devices import worker_devices
from app.standalone.embedded import EmbeddedServer
from app.standalone.embedded_store import EmbeddedStore

PYTHON = (sys.executable, "-P", "-m")  # never a module from the folder that the user happens to be in
_PACKAGES = ("app", "worker")
_WHERE_PACKAGES_ARE = f"""
import importlib.util
for name in {_PACKAGES}:
    spec = importlib.util.find_spec(name)
    print(spec.submodule_search_locations[0] if spec and spec.submodule_search_locations else "")
"""
GATEWAY_STOP_SECONDS = 10.0
WORKER_STOP_SECONDS = 30.0


class WorkerProcess(ChildProcess):
    """A worker at ``place``. What a predecessor there announced is withdrawn as it starts: it is not ready any more."""

    def __init__(self, name: str, log: Path | None, environment: Mapping[str, str], bus_url: str, place: str) -> None:
        self._bus_url = bus_url
        self._place = place
        environment = {**environment, "CONTEXTUNE_PLACE": place}
        super().__init__(name, [*PYTHON, "worker"], log, environment, WORKER_STOP_SECONDS)

    def start(self) -> None:
        """Starts it. A bus that does not answer now has forgotten in a moment what it was told."""
        with (
            suppress(redis.RedisError),
            redis.Redis.from_url(
                self._bus_url, socket_timeout=2, socket_connect_timeout=2, retry=Retry(NoBackoff(), 0)
            ) as client,
        ):
            client.eval(WITHDRAW, len(KEYS), *KEYS, self._place)
        super().start()


def children(settings: Settings) -> list[Child]:
    """The service's processes in the order of their start; a role with a URL of the user's has no server here.

    Raises ``ChildError`` for a device that is not there.
    """
    store = None if settings.store_url else EmbeddedStore.store(settings.data_dir)
    bus = None if settings.bus_url else EmbeddedServer.bus(settings.data_dir)
    bus_url = bus.url if bus else str(settings.bus_url)
    environment = {
        **os.environ,
        "PYTHONUNBUFFERED": "1",  # a crash must not take the end of the log with it
        "CONTEXTUNE_DATA_DIR": str(settings.data_dir),
        "CONTEXTUNE_SHOW_FIRST_KEY": "false",  # what it writes is kept in a log; `up` shows the key
        "CONTEXTUNE_STORE_URL": store.url if store else str(settings.store_url),
        "CONTEXTUNE_BUS_URL": bus_url,
    }
    logs = settings.data_dir / "logs"
    servers: list[Child] = [server for server in (store, bus) if server]
    devices = worker_devices(settings.devices, environment)
    started = workers(settings, devices, environment, bus_url, logs)
    gateway = ChildProcess("gateway", [*PYTHON, "app.main"], logs / "gateway.log", environment, GATEWAY_STOP_SECONDS)
    return [*servers, *started, gateway]


def workers(
    settings: Settings, devices: Sequence[str], environment: Mapping[str, str], bus_url: str, logs: Path | None
) -> list[Child]:
    """A worker for each device, with its log in the folder ``logs`` if there is one."""

    def worker(device: str) -> Child:
        name = "worker" if len(devices) == 1 else f"worker-{device.replace(':', '-')}"
        own = {**environment, "CONTEXTUNE_DEVICE": device, "CONTEXTUNE_DEVICES": ",".join(devices)}
        log = logs / f"{name}.log" if logs else None
        return WorkerProcess(name, log, own, bus_url, place(settings.data_dir, name))

    return [worker(device) for device in devices]


def check_packages(environment: Mapping[str, str] = os.environ) -> None:
    """Raises ``ChildError`` unless the children would run this very ``app`` and the ``worker`` beside it."""
    ours = Path(__file__).resolve().parents[2]
    found = subprocess.run(  # noqa: S603 - our own Python
        [sys.executable, "-P", "-c", _WHERE_PACKAGES_ARE],
        env=dict(environment),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name, where in zip(_PACKAGES, found, strict=True):
        if Path(where).resolve() != ours / name:
            raise ChildError(
                f"Python finds a package {name!r} in {where or 'no folder'} and not Contextune's in {ours / name}: "
                "take the other out of PYTHONPATH"
            )


def place(data_dir: Path, name: str) -> str:
    """The place of the worker ``name`` of the service on ``data_dir``: the same at each start, and nobody else's."""
    here = f"{socket.gethostname()} {data_dir}"
    return f"{hashlib.sha256(here.encode()).hexdigest()[:16]}-{name}"
