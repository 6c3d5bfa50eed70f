"""What the machine has for the service: Python, disk, memory, the port, drivers of GPUs."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import ssl
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from contextune.cli.examination import Finding, State

from app.config import Settings

_GIB: Final = 1024**3
_LEAST_DISK_BYTES: Final = 2 * _GIB
#: With less the store soon refuses every change.
_NO_ROOM_BYTES: Final = _GIB // 16
_LEAST_MEMORY_BYTES: Final = 3 * _GIB
_ANSWER_SECONDS: Final = 2.0
_LONGEST_ANSWER_BYTES: Final = 1000


def python() -> Iterator[Finding]:
    """Releases of Python and of our own packages, against each other."""
    found = f"Python {sys.version.split()[0]}, contextune-server {version('contextune-server')}"
    ours, client = version("contextune-server"), version("contextune")
    if ours != client:
        yield Finding("python", "warning", f"{found}, contextune {client}", "install both of one release")
    else:
        yield Finding("python", "ok", found)


def disk(settings: Settings) -> Iterator[Finding]:
    """Whether the data folder can be written, and has room."""
    # What lies in a folder that may not be looked into is not there: Path.exists raises then.
    place = next(one for one in (settings.data_dir, *settings.data_dir.parents) if os.path.exists(one))  # noqa: PTH110
    if not os.access(place, os.W_OK):
        yield Finding("disk", "wrong", f"{place} cannot be written", "set CONTEXTUNE_DATA_DIR to a folder of yours")
        return
    free = shutil.disk_usage(place).free
    found = f"{free / _GIB:.1f} GiB free in {settings.data_dir}"
    if free < _LEAST_DISK_BYTES:
        state: State = "wrong" if free < _NO_ROOM_BYTES else "warning"
        yield Finding("disk", state, found, "make room: models, records and artifacts are kept there")
    else:
        yield Finding("disk", "ok", found)


def memory(meminfo: Path) -> Iterator[Finding]:
    """What memory is available, where the system says it."""
    free = _available_bytes(meminfo)
    if free is None:
        yield Finding("memory", "ok", "this system does not say how much is available")
        return
    found = f"{free / _GIB:.1f} GiB available"
    if free < _LEAST_MEMORY_BYTES:
        yield Finding("memory", "warning", found, "a worker needs about 3 GiB for the default model")
    else:
        yield Finding("memory", "ok", found)


def _available_bytes(meminfo: Path) -> int | None:
    if not meminfo.exists():
        return None
    lines = meminfo.read_text("ascii").splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def port(settings: Settings) -> Iterator[Finding]:
    """Whether the gateway's port is free, or the service's own."""
    host = _host(settings)
    place = f"{settings.host}:{settings.port}"
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.settimeout(_ANSWER_SECONDS)
        if probe.connect_ex((host, settings.port)) != 0:
            yield Finding("port", "ok", f"{place} is free: the service does not run")
            return
    if answers(settings):
        yield Finding("port", "ok", f"the service answers on {place}")
    else:
        mend = "stop what listens there, or set CONTEXTUNE_PORT to a free port"
        yield Finding("port", "wrong", f"what listens on {place} is not this service, or does not answer", mend)


def answers(settings: Settings) -> bool:
    """Whether a gateway answers there. Its certificate is not looked at: nothing is told to it."""
    host = _host(settings)
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


def own_address(settings: Settings) -> str | None:
    """Where clients on this machine reach the gateway; None where none answers, or by a certificate of other names."""
    if settings.tls_cert is not None or not answers(settings):
        return None
    host = _host(settings)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def _host(settings: Settings) -> str:
    return "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104 - compared, not bound


def drivers(settings: Settings, driver: Path) -> Iterator[Finding]:
    """NVIDIA's driver against what PyTorch was built for, which its version says; torch itself is not loaded."""
    try:
        torch = f"PyTorch {version('torch')}"
    except PackageNotFoundError:
        return  # a gateway by itself
    if not driver.exists():
        wanted = [device for device in settings.devices if device == "all" or device.startswith("cuda")]
        if wanted:
            mend = "install NVIDIA's driver, or set CONTEXTUNE_DEVICES to auto or cpu"
            yield Finding("driver", "wrong", f"no driver for {', '.join(wanted)}; {torch}", mend)
        else:
            yield Finding("driver", "ok", f"none for GPUs: the CPU computes; {torch}")
        return
    found = f"{_first_line(driver)}; {torch}"
    if torch.endswith("+cpu"):
        yield Finding("driver", "warning", found, "PyTorch is built for CPUs alone: install its build with CUDA")
    else:
        yield Finding("driver", "ok", found)


def _first_line(driver: Path) -> str:
    line = next(iter(driver.read_text("utf-8", "replace").splitlines()), "")
    return " ".join(line.removeprefix("NVRM version:").split())
