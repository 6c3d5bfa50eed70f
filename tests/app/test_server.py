"""The gateway as a process, with servers but no worker."""

import json
import signal
import socket
import ssl
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FuturesTimeoutError
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path

import httpx
import pytest

from app.config import Settings
from app.records.store import Records
from app.routes.classify import EXAMPLE_BODY as CLASSIFY_EXAMPLE
from tests.app.gateway_process import gateway_process, gateway_started
from tests.submissions import submission
from tests.waiting import eventually


@pytest.fixture
def settings(store_url: str, bus_url: str, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, store_url=store_url, bus_url=bus_url)


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
        assert process.wait(30) == 0


def test_gateway_that_waits_for_its_store_at_the_start_stops_in_order(bus_url: str, tmp_path: Path) -> None:
    """A container's first process is left alone by signals that it does not handle."""
    path = tmp_path / "silent"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        settings = Settings(data_dir=tmp_path, store_url=f"unix://{path}", bus_url=bus_url)
        with gateway_started(settings) as (process, _):
            silent.settimeout(60)
            with silent.accept()[0]:  # it has a question that is never answered
                process.send_signal(signal.SIGTERM)
                assert process.wait(60) == 0


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
            return "/classify" in "".join(said) and said[-1].endswith("\n")

        eventually(asked)
    logged = [json.loads(line) for line in "".join(said).splitlines()]
    assert not [entry for entry in logged if entry["level"] == "warning" and "pgrade" in entry["event"]]


def test_gateway_serves_https(settings: Settings, tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("/usr/bin/openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    environment = {"CONTEXTUNE_TLS_CERT": str(certificate), "CONTEXTUNE_TLS_KEY": str(key)}
    with gateway_process(settings, **environment) as (_, port):
        trusted = ssl.create_default_context(cafile=certificate)
        response = httpx.get(f"https://localhost:{port}/contexts", verify=trusted)
        assert (response.status_code, response.json()["data"]) == (200, [])


def test_request_that_is_cut_off_by_the_stop_is_told_so(settings: Settings, records: Records) -> None:
    """Its body is still on its way when the time to stop in has passed."""
    with gateway_process(settings) as (process, port), socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(
            b"POST /classify HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
        )
        eventually(lambda: httpx.get(f"http://127.0.0.1:{port}/health/live").is_success)
        process.send_signal(signal.SIGTERM)
        connection.settimeout(30)
        answer = b""
        while part := connection.recv(65_536):
            answer += part
        assert b" 503 " in answer.splitlines()[0]
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "shutting_down"
        process.wait(30)
