"""The gateway as a process, with servers but no worker."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FuturesTimeoutError
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path

import httpx
import pytest

from app.config import Settings
from app.records.store import Records
from app.routes.classify import EXAMPLE_BODY as CLASSIFY_EXAMPLE
from tests.submissions import submission
from tests.waiting import eventually


@pytest.fixture
def settings(store_url: str, bus_url: str, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, store_url=store_url, bus_url=bus_url)


@contextmanager
def gateway_process(settings: Settings) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A gateway of its own that lives, and its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "CONTEXTUNE_STORE_URL": settings.store_url or "",
        "CONTEXTUNE_BUS_URL": settings.bus_url or "",
        "CONTEXTUNE_DATA_DIR": str(settings.data_dir),
        "CONTEXTUNE_PORT": str(port),
    }

    def lives() -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"http://127.0.0.1:{port}/health/live").is_success
        return False

    with subprocess.Popen([sys.executable, "-m", "app.main"], env=environment) as process:
        try:
            eventually(lives)
            yield process, port
        finally:
            process.kill()


def test_request_that_waits_is_answered_when_the_gateway_stops(settings: Settings, records: Records) -> None:
    _, job = records.of("default").contexts.submit(submission())
    with (
        gateway_process(settings) as (process, port),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http,
        ThreadPoolExecutor() as threads,
    ):
        waiting = threads.submit(http.get, f"/jobs/{job.id}", params={"wait": 60})
        with suppress(FuturesTimeoutError):
            waiting.result(1)
        assert not waiting.done()
        process.send_signal(signal.SIGTERM)
        response = waiting.result(60)
        assert (response.status_code, response.json()["status"]) == (200, "queued")
        assert process.wait(30) in (0, -signal.SIGTERM)


def test_connection_that_was_idle_for_a_while_is_still_good(settings: Settings) -> None:
    """Clients keep connections for some seconds; a server that closes first makes their next request fail."""
    with gateway_process(settings) as (_, port), closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        for pause in (0, 6):
            time.sleep(pause)
            connection.request("GET", "/health/live")
            response = connection.getresponse()
            assert (response.status, json.loads(response.read())) == (200, {"status": "ok"})


def test_body_of_a_request_that_offers_another_protocol_is_read(
    settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    """As Java's HttpClient sends it: the offer of HTTP/2 may be passed over (RFC 9110, 7.8), the body may not."""
    body = json.dumps(CLASSIFY_EXAMPLE)
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAEAAEAAAAIAAAAB"}
    with gateway_process(settings) as (_, port), closing(HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("POST", "/classify", body, {"Content-Type": "application/json", **offer})
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())["code"]) == (404, "context_not_found")
        said: list[str] = []

        def asked() -> bool:
            said.append(capfd.readouterr().err)
            return "/classify" in "".join(said)

        eventually(asked)
    logged = [json.loads(line) for line in "".join(said).splitlines()]
    assert not [entry for entry in logged if entry["level"] == "warning"]
