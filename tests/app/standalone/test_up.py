import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.access.first_key import FILE_NAME
from app.config import Settings
from app.standalone.processes import children
from app.standalone.supervisor import StartFailedError
from app.standalone.up import (
    CannotStartError,
    base_url,
    check_certificate,
    check_port,
    claimed,
    first_key_shown_once,
    missing,
)
from tests.ports import free_port

MAKEFILE = "up:\n\t@exec {python} {script}\n"
IN_FOREGROUND = """
import signal, sys, time
from app.standalone.up import foreground
signals = []
signal.signal(signal.SIGINT, lambda number, frame: signals.append(number))
with foreground():
    print("waiting", flush=True)
    while not signals:
        time.sleep(0.02)
    time.sleep(0.2)
print(f"{len(signals)} signal", flush=True)
"""


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("::1", "http://[::1]:8000"),
        ("example.test", "http://example.test:8000"),
    ],
)
def test_base_url_can_be_opened_on_this_machine(host: str, url: str) -> None:
    assert base_url(host, 8000) == url


def test_data_folder_has_one_user_at_a_time(tmp_path: Path) -> None:
    with (
        claimed(tmp_path, "http://127.0.0.1:8000"),
        pytest.raises(
            CannotStartError, match=rf"already running here \(pid {os.getpid()}\), at http://127.0.0.1:8000; .* kill"
        ),
        claimed(tmp_path, "http://127.0.0.1:8001"),
    ):
        pass
    with claimed(tmp_path, "http://127.0.0.1:8001"):
        assert (tmp_path / "up.lock").read_text() == f"{os.getpid()} http://127.0.0.1:8001\n"


def test_certificate_that_cannot_be_used_is_told_before_anything_starts(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    with pytest.raises(CannotStartError, match=r"CONTEXTUNE_TLS_CERT and CONTEXTUNE_TLS_KEY .* No such file"):
        check_certificate(cert, key)
    for file in (cert, key):
        file.write_text("no PEM")
    with pytest.raises(CannotStartError, match="CONTEXTUNE_TLS_CERT"):
        check_certificate(cert, key)


def test_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(CannotStartError, match=r"cannot use the data folder .*/file/data"),
        claimed(tmp_path / "file" / "data", "http://127.0.0.1:8000"),
    ):
        pass


def test_a_first_key_is_told_once_and_none_that_was_there_before(tmp_path: Path) -> None:
    told: list[str] = []
    show = first_key_shown_once(tmp_path, told.append)
    show()
    assert told == []
    (tmp_path / FILE_NAME).write_text("ctk_secret\n")
    show()
    show()
    assert [text.splitlines()[-1] for text in told] == ["ctk_secret"]
    first_key_shown_once(tmp_path, told.append)()
    assert len(told) == 1


def test_port_in_use_is_refused_and_free_again_afterwards() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(CannotStartError, match=f"cannot listen on 127.0.0.1 port {port}: Address already in use"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)


def test_host_of_another_machine_is_refused() -> None:
    with pytest.raises(CannotStartError, match=r"cannot listen on 192\.0\.2\.1"):
        check_port("192.0.2.1", 8000)


@contextmanager
def answering(status: int, body: object) -> Iterator[str]:
    """A server that answers every GET the same way."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's signature
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


READY, NO_WORKER = {"status": "ready", "stage": None}, {"status": "no_worker", "stage": None}
LOADING = {"status": "loading", "stage": None}
UNSUPPORTED = {"status": "unsupported", "stage": "Gemma2Config: no soft caps."}


def found(store: str, bus: str, **models: Mapping[str, str | None]) -> dict[str, object]:
    return {"checks": {"store": store, "bus": bus, "models": models}}


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (200, found("ok", "ok", m=READY), None),
        (200, found("ok", "ok", m=NO_WORKER), "starting the worker of m"),
        (503, found("unavailable", "ok", m=READY), "the store is unavailable"),
        (200, found("ok", "ok", m={**LOADING, "stage": "dequantising m"}), "dequantising m"),
        (200, found("ok", "ok", m=LOADING), "loading m"),
        (503, found("ok", "unavailable", a=LOADING, b=READY), "the bus is unavailable, loading a"),
        (200, found("ok", "ok", a=UNSUPPORTED, b=LOADING), "loading b"),
    ],
)
def test_what_readiness_lacks_is_told_in_words(status: int, body: object, text: str | None) -> None:
    told: list[str] = []
    with answering(status, body) as url, httpx.Client() as http:
        assert missing(http, url, told.append) == text
    assert told == []


def test_model_that_cannot_be_used_is_told_once_the_others_are_ready() -> None:
    told: list[str] = []
    with answering(200, found("ok", "ok", a=UNSUPPORTED, b=READY)) as url, httpx.Client() as http:
        assert missing(http, url, told.append) is None
    assert told == ["the model a cannot be used: Gemma2Config: no soft caps."]


def test_start_fails_when_no_model_can_be_used() -> None:
    with (
        answering(200, found("ok", "ok", a=UNSUPPORTED, b=UNSUPPORTED)) as url,
        httpx.Client() as http,
        pytest.raises(StartFailedError, match=r"the model a cannot be used: Gemma2.*, the model b cannot be used"),
    ):
        missing(http, url, print)


def test_gateway_that_does_not_answer_yet_is_starting() -> None:
    with httpx.Client() as http:
        assert missing(http, f"http://127.0.0.1:{free_port()}", print) == "starting the gateway and the worker"


def test_ctrl_c_reaches_the_service_once_and_make_ends_with_0(tmp_path: Path) -> None:
    script = tmp_path / "service.py"
    script.write_text(IN_FOREGROUND)
    (tmp_path / "Makefile").write_text(MAKEFILE.format(python=sys.executable, script=script))
    child, terminal = pty.fork()
    if child == 0:
        os.environ["PYTHONPATH"] = str(Path.cwd())
        os.execvp("make", ["make", "-C", str(tmp_path), "up"])
    said = read_until(terminal, b"waiting")
    os.write(terminal, b"\x1a")  # Ctrl-Z: nobody could continue it
    os.write(terminal, b"\x03")
    said += read_until(terminal, b"1 signal")
    assert b"***" not in said + drain(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(terminal)


def read_until(terminal: int, text: bytes) -> bytes:
    said = b""
    until = time.monotonic() + 60
    while text not in said:
        assert time.monotonic() < until, said
        said += os.read(terminal, 1024)
    return said


def drain(terminal: int) -> bytes:
    """What is left to read; the kernel reports the end of a terminal as an error."""
    said = b""
    try:
        while more := os.read(terminal, 1024):
            said += more
    except OSError:
        pass
    return said


def test_the_service_starts_and_stops_with_nothing_left(models: Path, tmp_path: Path) -> None:
    (tmp_path / "models").symlink_to(models)
    port = free_port()
    environment = {**os.environ, "CONTEXTUNE_DATA_DIR": str(tmp_path), "CONTEXTUNE_PORT": str(port)}
    command = [sys.executable, "-m", "app.standalone.cli"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            said = [next(process.stdout)]
            while "is ready on" not in said[-1]:
                said.append(next(process.stdout))
            second = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
        finally:
            process.send_signal(signal.SIGINT)
        rest = process.stdout.read().splitlines()
    assert process.returncode == 0
    url = f"http://127.0.0.1:{port}"
    assert said[-1] == f"Contextune is ready on {url} - docs at {url}/docs - Ctrl-C stops it\n"
    assert rest == [f"stopping the {name}" for name in ("gateway", "worker", "bus", "store")]
    assert second.returncode == 1
    assert second.stderr.startswith(f"already running here (pid {process.pid}), at {url}")
    assert not any(child.running() for child in children(Settings(data_dir=tmp_path)))
