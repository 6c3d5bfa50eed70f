"""What is wrong with an installation, and how to mend it. Changes nothing but a file that it writes and removes.

Each check stands for itself: one that cannot be made says so, and the others go on. No secret is ever in a finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from contextune.cli.examination import Finding

from app.admin.doctor.files import access, artifacts, model_files
from app.admin.doctor.machine import disk, drivers, memory, own_address, port, python
from app.admin.doctor.servers import bus, store, workers
from app.config import Settings

__all__ = ["examine", "own_address"]

_PROC: Final = Path("/proc")


def examine(settings: Settings, store_url: str, bus_url: str, proc: Path = _PROC) -> list[Finding]:
    """Make every check of an installation whose servers are at these URLs; ``proc`` is there on Linux alone."""
    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("python", python),
        ("disk", lambda: disk(settings)),
        ("memory", lambda: memory(proc / "meminfo")),
        ("driver", lambda: drivers(settings, proc / "driver/nvidia/version")),
        ("port", lambda: port(settings)),
        ("store", lambda: store(store_url)),
        ("bus", lambda: bus(bus_url)),
        ("workers", lambda: workers(settings, bus_url)),
        ("models", lambda: model_files(settings)),
        ("artifacts", lambda: artifacts(settings)),
        ("access", lambda: access(settings)),
    ]
    return [finding for name, check in checks for finding in _made(name, check)]


def _made(name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except Exception as error:  # noqa: BLE001 - whatever is wrong there is a finding, and the other checks go on
        yield Finding(name, "wrong", f"this could not be checked: {type(error).__name__}")
