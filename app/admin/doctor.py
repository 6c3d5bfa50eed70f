"""What is wrong with an installation, and how to mend it. Changes nothing but a file that it writes and removes.

Each check stands for itself: one that cannot be made says so, and the others go on. No secret is ever in a finding.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import ssl
import stat
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final, Literal, cast

import redis
from pydantic import ValidationError

from app.access.callers import may_be_open
from app.access.first_key import FILE_NAME
from app.config import Settings
from app.contract.announcements import KEYS, LIVE
from app.contract.messages import Announcement
from app.contract.names import artifact_url
from app.records.connection import StoreRefused, connect
from app.records.files import ArtifactsUnavailable, read_file, remove_file, write_file
from app.records.requirements import bus_refusal, take_up

_GIB: Final = 1024**3
_LEAST_DISK_BYTES: Final = 2 * _GIB
_LEAST_MEMORY_BYTES: Final = 2 * _GIB
_CLOCK_SECONDS: Final = 5.0
_SLOW_SECONDS: Final = 0.05
_PINGS: Final = 5
_ANSWER_SECONDS: Final = 2.0
_LONGEST_ANSWER_BYTES: Final = 1000
_MEMINFO: Final = Path("/proc/meminfo")

State = Literal["ok", "warning", "wrong"]


@dataclass(frozen=True)
class Finding:
    """What a check found, and how to mend it where something is the matter."""

    check: str
    state: State
    found: str
    mend: str | None = None


def examine(settings: Settings, store_url: str, bus_url: str, meminfo: Path = _MEMINFO) -> list[Finding]:
    """Make every check of an installation whose servers are at these URLs; ``meminfo`` is there on Linux alone."""
    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("python", _python),
        ("disk", lambda: _disk(settings)),
        ("memory", lambda: _memory(meminfo)),
        ("port", lambda: _port(settings)),
        ("store", lambda: _store(store_url)),
        ("bus", lambda: _bus(bus_url)),
        ("workers", lambda: _workers(settings, bus_url)),
        ("artifacts", lambda: _artifacts(settings)),
        ("access", lambda: _access(settings)),
    ]
    return [finding for name, check in checks for finding in _made(name, check)]


def _made(name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except Exception as error:  # noqa: BLE001 - whatever is wrong there is a finding, and the other checks go on
        yield Finding(name, "wrong", f"this could not be checked: {type(error).__name__}")


def _python() -> Iterator[Finding]:
    found = f"Python {sys.version.split()[0]}, contextune-server {version('contextune-server')}"
    ours, client = version("contextune-server"), version("contextune")
    if ours != client:
        yield Finding("python", "warning", f"{found}, contextune {client}", "install both of one release")
    else:
        yield Finding("python", "ok", found)


def _disk(settings: Settings) -> Iterator[Finding]:
    place = next(one for one in (settings.data_dir, *settings.data_dir.parents) if one.exists())
    if not os.access(place, os.W_OK):
        yield Finding("disk", "wrong", f"{place} cannot be written", "set CONTEXTUNE_DATA_DIR to a folder of yours")
        return
    free = shutil.disk_usage(place).free
    found = f"{free / _GIB:.1f} GiB free in {settings.data_dir}"
    if free < _LEAST_DISK_BYTES:
        yield Finding("disk", "warning", found, "make room: models, records and artifacts are kept there")
    else:
        yield Finding("disk", "ok", found)


def _memory(meminfo: Path) -> Iterator[Finding]:
    free = _available_bytes(meminfo)
    if free is None:
        yield Finding("memory", "ok", "this system does not say how much is available")
        return
    found = f"{free / _GIB:.1f} GiB available"
    if free < _LEAST_MEMORY_BYTES:
        yield Finding("memory", "warning", found, "a worker needs about 2 GiB for the default model")
    else:
        yield Finding("memory", "ok", found)


def _available_bytes(meminfo: Path) -> int | None:
    if not meminfo.exists():
        return None
    lines = meminfo.read_text("ascii").splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _port(settings: Settings) -> Iterator[Finding]:
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104 - compared, not bound
    place = f"{settings.host}:{settings.port}"
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.settimeout(_ANSWER_SECONDS)
        if probe.connect_ex((host, settings.port)) != 0:
            yield Finding("port", "ok", f"{place} is free: the service does not run")
            return
    if _is_ours(host, settings):
        yield Finding("port", "ok", f"the service answers on {place}")
    else:
        mend = "stop what listens there, or set CONTEXTUNE_PORT to a free port"
        yield Finding("port", "wrong", f"what listens on {place} is not this service, or does not answer", mend)


def _is_ours(host: str, settings: Settings) -> bool:
    """Whether a gateway answers there. Its certificate is not looked at: nothing is told to it."""
    if settings.tls_cert is None:
        connection = http.client.HTTPConnection(host, settings.port, timeout=_ANSWER_SECONDS)
    else:
        unchecked = ssl._create_unverified_context()  # noqa: S323
        connection = http.client.HTTPSConnection(host, settings.port, timeout=_ANSWER_SECONDS, context=unchecked)
    try:
        connection.request("GET", "/health/live")
        return bool(json.loads(connection.getresponse().read(_LONGEST_ANSWER_BYTES)) == {"status": "ok"})
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()


def _store(url: str) -> Iterator[Finding]:
    client = connect(url)
    try:
        doubts = take_up(client)
        info = client.info()
        behind = abs(time.time() - client.time()[0])
    except StoreRefused as error:
        yield Finding("store", "wrong", str(error), "see docs/operations.md, The store")
        return
    except redis.RedisError as error:
        yield _unreachable("store", error)
        return
    name = "Valkey" if "valkey_version" in info else "Redis"
    yield Finding("store", "ok", f"{name} {info.get('valkey_version', info.get('redis_version'))} answers")
    for doubt in doubts:
        yield Finding("store", "warning", doubt, "see docs/operations.md, The store")
    if behind > _CLOCK_SECONDS:
        found = f"this machine's clock and the store's are {behind:.0f} s apart"
        yield Finding("clock", "warning", found, "set both by NTP; answers show the store's times")
    else:
        yield Finding("clock", "ok", "as the store's")
    yield _latency("store", client)
    client.close()


def _bus(url: str) -> Iterator[Finding]:
    if reason := bus_refusal(url):
        yield Finding("bus", "wrong", reason, "give the bus a server of its own")
        return
    client = connect(url)
    try:
        client.ping()
        yield _latency("bus", client)
    except redis.RedisError as error:
        yield _unreachable("bus", error)
    finally:
        client.close()


def _latency(name: str, client: redis.Redis) -> Finding:
    took = []
    for _ in range(_PINGS):
        began = time.perf_counter()
        client.ping()
        took.append(time.perf_counter() - began)
    seconds = sorted(took)[_PINGS // 2]
    found = f"a round trip takes {seconds * 1000:.1f} ms"
    mend = "put it nearer to the gateway" if seconds > _SLOW_SECONDS else None
    return Finding(name, "warning" if mend else "ok", found, mend)


def _unreachable(name: str, error: redis.RedisError) -> Finding:
    setting = f"CONTEXTUNE_{name.upper()}_URL"
    if isinstance(error, redis.AuthenticationError):
        return Finding(name, "wrong", "it refuses the password", f"set the password in {setting}")
    mend = f"start it with `contextune up`, or set {setting} to a server that runs"
    return Finding(name, "wrong", "it does not answer", mend)


def _workers(settings: Settings, bus_url: str) -> Iterator[Finding]:
    client = connect(bus_url)
    try:
        _, texts = cast("tuple[object, list[str | None]]", client.eval(LIVE, len(KEYS), *KEYS))
    except redis.RedisError:
        yield Finding("workers", "wrong", "workers announce themselves on the bus, which does not answer")
        return
    finally:
        client.close()
    live = [one for text in texts if (one := _announced(text)) is not None]
    for model in settings.models:
        yield _model(model, [one for one in live if one.model == model])


def _model(model: str, live: list[Announcement]) -> Finding:
    refused = next((one.unsupported for one in live if one.unsupported), None)
    ready = [one for one in live if one.ready]
    if ready:
        devices = ", ".join(sorted({one.device.id for one in ready if one.device is not None}))
        others = sorted({one.release for one in live} - {version("contextune-server")})
        found = f"{model}: {len(ready)} ready on {devices or 'unknown devices'}"
        if others:
            return Finding(
                "workers", "warning", f"{found}, of release {', '.join(others)}", "install one release everywhere"
            )
        return Finding("workers", "ok", found)
    if refused:
        return Finding("workers", "wrong", f"{model}: {refused}", "see docs/models.md for what can be used")
    if live:
        return Finding("workers", "warning", f"{model}: {live[0].stage or 'loading'}", "wait until it is loaded")
    return Finding("workers", "wrong", f"{model}: no worker", "start one with `contextune up`, or `python -m worker`")


def _announced(text: str | None) -> Announcement | None:
    try:
        return Announcement.model_validate_json(text or "")
    except ValidationError:  # of another release
        return None


def _artifacts(settings: Settings) -> Iterator[Finding]:
    url = artifact_url(settings.artifacts_url, f"uploads/doctor-{os.getpid()}")
    try:
        write_file(url, b"contextune")
        whole = read_file(url) == b"contextune"
        remove_file(url)
    except (OSError, ArtifactsUnavailable, ImportError, ValueError) as error:
        mend = "see that CONTEXTUNE_ARTIFACTS_URL can be written, and its fsspec package is installed"
        yield Finding("artifacts", "wrong", f"they cannot be written, read and removed: {type(error).__name__}", mend)
        return
    if whole:
        yield Finding("artifacts", "ok", "written, read and removed")
    else:
        yield Finding("artifacts", "wrong", "what was written is not what was read", "check the file system")


def _access(settings: Settings) -> Iterator[Finding]:
    if settings.auth == "off":
        found = "CONTEXTUNE_AUTH is off: whoever reaches the service may do everything"
        yield Finding(
            "access", "warning", found, "remove the setting, and make a key with `contextune keys store create`"
        )
    elif may_be_open(settings):
        yield Finding("access", "ok", f"open on {settings.host} until the first key is made")
    else:
        yield Finding("access", "ok", "each request needs a key")
    file = settings.data_dir / FILE_NAME
    if file.exists() and (mode := stat.S_IMODE(file.stat().st_mode)) & 0o077:
        yield Finding("access", "wrong", f"{file} can be read by others (mode {mode:o})", f"chmod 600 {file}")
    if settings.tls_cert is None and not may_be_open(settings) and not settings.trusted_proxies:
        mend = "set CONTEXTUNE_TLS_CERT and CONTEXTUNE_TLS_KEY, or CONTEXTUNE_TRUSTED_PROXIES"
        yield Finding("access", "warning", "keys travel over plain HTTP", mend)
