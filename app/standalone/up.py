"""``contextune up``: what the whole service on one machine consists of, and what its user is told.

Owns the claim on the data folder, the look at the port, the list of children, the readiness question and the display.
Starting, restarting and stopping are the supervisor's.
"""

from __future__ import annotations

import fcntl
import hashlib
import ipaddress
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner

from app.config import Settings
from app.contract.announcements import KEYS, WITHDRAW
from app.records.requirements import refusal
from app.standalone.children import Child, ChildProcess
from app.standalone.embedded import EmbeddedServer
from app.standalone.supervisor import StartFailedError, Supervisor

GATEWAY_STOP_SECONDS = 10.0
WORKER_STOP_SECONDS = 30.0
HEARTBEAT_SECONDS = 5.0
PORT_RELEASE_SECONDS = 2.0


class CannotStartError(RuntimeError):
    """Nothing was started; the text says why."""


def run(settings: Settings) -> None:
    """Runs the service until a signal ends it.

    Raises ``CannotStartError`` or ``app.standalone.supervisor.StartFailedError``; nothing is left running then.
    """
    os.umask(0o077)
    url = base_url(settings.host, settings.port, settings.tls_cert is not None)
    # The certificate is that of the gateway's public name, and it is on this machine that the gateway is asked.
    http = httpx.Client(trust_env=False, verify=settings.tls_cert is None)
    with claimed(settings.data_dir, url), foreground(), Display(url) as display, http:
        check_port(settings.host, settings.port)
        if settings.store_url and (reason := refusal(settings.store_url)):
            raise CannotStartError(reason)
        Supervisor(children(settings), lambda: missing(http, url, display.event), display).run()


def base_url(host: str, port: int, tls: bool = False) -> str:
    """The address to type into a browser on this machine for a gateway that listens on ``host``."""
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        if address.is_unspecified:
            host = "127.0.0.1" if address.version == 4 else "::1"
    scheme = "https" if tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


class EmbeddedStore(EmbeddedServer):
    """The durable server, which is checked as soon as it answers."""

    def answers(self) -> bool:
        """Whether it answers. Raises ``StartFailedError`` when what it holds must not be used."""
        if not super().answers():
            return False
        if reason := refusal(self.url):
            raise StartFailedError(reason)
        return True


class WorkerProcess(ChildProcess):
    """A worker at ``place``. What a predecessor there announced is withdrawn as it starts: it is not ready any more."""

    def __init__(self, name: str, log: Path, environment: Mapping[str, str], bus_url: str, place: str) -> None:
        self._bus_url = bus_url
        self._place = place
        environment = {**environment, "CONTEXTUNE_PLACE": place}
        super().__init__(name, [sys.executable, "-m", "worker"], log, environment, WORKER_STOP_SECONDS)

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
    """The service's processes in the order of their start; a role with a URL of the user's has no server here."""
    store = None if settings.store_url else EmbeddedStore.store(settings.data_dir)
    bus = None if settings.bus_url else EmbeddedServer.bus(settings.data_dir)
    bus_url = bus.url if bus else str(settings.bus_url)
    environment = {
        **os.environ,
        "PYTHONUNBUFFERED": "1",  # a crash must not take the end of the log with it
        "CONTEXTUNE_DATA_DIR": str(settings.data_dir),
        "CONTEXTUNE_STORE_URL": store.url if store else str(settings.store_url),
        "CONTEXTUNE_BUS_URL": bus_url,
    }
    logs = settings.data_dir / "logs"
    servers: list[Child] = [server for server in (store, bus) if server]
    return [
        *servers,
        WorkerProcess("worker", logs / "worker.log", environment, bus_url, place(settings.data_dir, "worker")),
        ChildProcess(
            "gateway", [sys.executable, "-m", "app.main"], logs / "gateway.log", environment, GATEWAY_STOP_SECONDS
        ),
    ]


def place(data_dir: Path, name: str) -> str:
    """The place of the worker ``name`` of the service on ``data_dir``: the same at each start, and nobody else's."""
    here = f"{socket.gethostname()} {data_dir}"
    return f"{hashlib.sha256(here.encode()).hexdigest()[:16]}-{name}"


def missing(http: httpx.Client, url: str, tell: Callable[[str], None]) -> str | None:
    """What the gateway at ``url`` says it still waits for, or ``None`` when it is ready.

    It is ready without the models that will never be: of each ``tell`` is told why. Raises ``StartFailedError`` when no
    model can be used.
    """
    try:
        checks = http.get(f"{url}/health/ready", timeout=2).json()["checks"]
        models = checks["models"].items()
    except (httpx.HTTPError, ValueError, KeyError):
        return "starting the gateway and the worker"
    useless = [f"the model {model} cannot be used: {m['stage']}" for model, m in models if m["status"] == "unsupported"]
    if len(useless) == len(models):
        raise StartFailedError(", ".join(useless))
    if unmet := _unmet(checks):
        return unmet
    for text in useless:
        tell(text)
    return None


def _unmet(checks: dict[str, Any]) -> str:
    """One phrase for the checks of ``GET /health/ready`` that are not met yet."""
    unmet = [f"the {role} is {checks[role]}" for role in ("store", "bus") if checks[role] != "ok"]
    for model, check in checks["models"].items():
        if check["status"] == "no_worker":
            unmet.append(f"starting the worker of {model}")
        elif check["status"] == "loading":
            unmet.append(check["stage"] or f"loading {model}")
    return ", ".join(unmet)


@contextmanager
def claimed(data_dir: Path, url: str) -> Iterator[None]:
    """Holds the data folder for this process. Raises ``CannotStartError`` when another one does, naming it."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = (data_dir / "up.lock").open("a+")
    except OSError as error:
        raise CannotStartError(f"cannot use the data folder {data_dir}: {error}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            pid, _, there = file.read().strip().partition(" ")
            text = f"already running here (pid {pid}), at {there}; stop it with Ctrl-C there or kill {pid}"
            raise CannotStartError(text) from None
        file.truncate(0)
        file.write(f"{os.getpid()} {url}\n")
        file.flush()
        yield


def check_port(host: str, port: int) -> None:
    """Raises ``CannotStartError`` unless a server can listen there.

    A gateway that the kernel is just ending (its supervisor was killed) gets a moment to let go of the port.
    """
    until = time.monotonic() + PORT_RELEASE_SECONDS
    while error := _listen_error(host, port):
        if time.monotonic() > until:
            raise CannotStartError(
                f"cannot listen on {host} port {port}: {error.strerror}; "
                "stop what uses the port, or set CONTEXTUNE_PORT (and CONTEXTUNE_HOST) to another"
            )
        time.sleep(0.1)


def _listen_error(host: str, port: int) -> OSError | None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error
    return None


@contextmanager
def foreground() -> Iterator[None]:
    """Makes this process alone the terminal's foreground group.

    Ctrl-C then reaches it and not the ``make`` that started it, which would end with an error of its own although the
    service ended well. Does nothing without a terminal, in the background, or when the shell has already done it.
    """
    try:
        terminal = os.open("/dev/tty", os.O_RDWR)
    except OSError:
        yield
        return
    before = os.getpgrp()
    try:
        if before != os.getpid() and os.tcgetpgrp(terminal) == before:
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # else giving the terminal away stops the giver
            signal.signal(signal.SIGTSTP, lambda _number, _frame: None)  # no shell would notice, nor continue it
            os.setpgid(0, 0)
            os.tcsetpgrp(terminal, os.getpid())
        yield
    finally:
        if os.getpgrp() != before:
            with suppress(OSError):  # the terminal may be gone
                os.tcsetpgrp(terminal, before)
        os.close(terminal)


class Display:
    """Tells the user: a spinner on a terminal, elsewhere a line for each stage and a heartbeat.

    A closed terminal or pipe must not keep the service from stopping: failed writes are ignored, and so is the
    SystemExit that rich makes of a broken pipe (it has by then turned to /dev/null).
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
        # Refreshed by stage(): a thread of its own would be a second one at the forks of the children.
        self._spinner = Spinner("dots")
        self._live = Live(self._spinner, console=self._console, auto_refresh=False, transient=True)
        self._began = self._spoke = time.monotonic()
        self._stage = ""

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *_: object) -> None:
        self._rest()

    def stage(self, text: str) -> None:
        """Shows what the start waits for."""
        now = time.monotonic()
        elapsed = f"{text} ({now - self._began:.0f} s)"
        with suppress(OSError, SystemExit):
            if self._console.is_terminal:
                self._live.start()
                self._spinner.update(text=elapsed)
                self._live.refresh()
            elif text != self._stage or now - self._spoke >= HEARTBEAT_SECONDS:
                self._stage, self._spoke = text, now
                self._console.print(elapsed)

    def event(self, text: str) -> None:
        """Prints a line."""
        with suppress(OSError, SystemExit):
            self._console.print(text)

    def ready(self) -> None:
        """Prints the line that everybody waits for."""
        self._rest()
        self.event(f"Contextune is ready on {self._url} - docs at {self._url}/docs - Ctrl-C stops it")

    def _rest(self) -> None:
        with suppress(OSError, SystemExit):
            self._live.stop()
