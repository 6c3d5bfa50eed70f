"""A gateway as a process of its own, without workers."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx

from app.config import Settings
from tests.ports import free_port
from tests.waiting import eventually


@contextmanager
def gateway_started(settings: Settings, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A gateway that has just been started, and its port; ``environment`` are further settings by variables' names."""
    port = free_port()
    variables = {
        **os.environ,
        "CONTEXTUNE_STORE_URL": settings.store_url or "",
        "CONTEXTUNE_BUS_URL": settings.bus_url or "",
        "CONTEXTUNE_DATA_DIR": str(settings.data_dir),
        "CONTEXTUNE_PORT": str(port),
        **environment,
    }
    with subprocess.Popen([sys.executable, "-m", "app.main"], env=variables) as process:
        try:
            yield process, port
        finally:
            process.kill()


@contextmanager
def gateway_process(settings: Settings, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The same once it lives."""
    scheme = "https" if "CONTEXTUNE_TLS_CERT" in environment else "http"
    with gateway_started(settings, **environment) as (process, port):

        def lives() -> bool:
            with suppress(httpx.TransportError):
                return httpx.get(f"{scheme}://127.0.0.1:{port}/health/live", verify=False).is_success
            return False

        eventually(lives, 120)
        yield process, port
