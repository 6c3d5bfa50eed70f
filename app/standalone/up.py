"""``contextune up``: what the whole service on one machine consists of, and what its user is told.

Owns the claim on the data folder, the look at the port, the readiness question and the foreground.
Starting, restarting and stopping are the supervisor's.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from app.access.first_key import FILE_NAME
from app.config import Settings
from app.records.requirements import bus_refusal, refusal
from app.standalone.children import ChildError
from app.standalone.display import Display
from app.standalone.processes import check_packages, children
from app.standalone.supervisor import StartFailedError, Supervisor

PORT_RELEASE_SECONDS = 2.0


class CannotStartError(RuntimeError):
    """Nothing was started; the text says why."""


def run(settings: Settings, open_page: Callable[[str], object] | None = None) -> None:
    """Runs the service until a signal ends it; ``open_page`` is given its address as soon as it is ready.

    Raises ``CannotStartError`` or ``app.standalone.supervisor.StartFailedError``; nothing is left running then.
    """
    os.umask(0o077)
    url = base_url(settings.host, settings.port, settings.tls_cert is not None)
    # The certificate is that of the gateway's public name, and it is on this machine that the gateway is asked.
    http = httpx.Client(trust_env=False, verify=settings.tls_cert is None)
    with claimed(settings.data_dir, url), foreground(), Display(url, open_page) as display, http:
        check_port(settings.host, settings.port)
        if settings.tls_cert and settings.tls_key:
            check_certificate(settings.tls_cert, settings.tls_key)
        for role_url, refuse in ((settings.store_url, refusal), (settings.bus_url, bus_refusal)):
            if role_url and (reason := refuse(role_url)):
                raise CannotStartError(reason)
        try:
            check_packages()
            processes = children(settings)
        except ChildError as error:
            raise CannotStartError(str(error)) from error
        show_first_key = first_key_shown_once(settings.data_dir, display.event)

        def unmet() -> str | None:
            show_first_key()  # as soon as there is one: a start that is broken off would never show it
            return missing(http, url, display.event)

        Supervisor(processes, unmet, display).run()


def first_key_shown_once(data_dir: Path, tell: Callable[[str], None]) -> Callable[[], None]:
    """What ``tell``s of the key that the gateway made, if it makes one from now on."""
    file = data_dir / FILE_NAME
    told = file.exists()

    def show() -> None:
        nonlocal told
        if not told and file.exists():
            told = True
            tell(
                f"requests need a key: this first one has every scope, and {file} keeps it\n{file.read_text().strip()}"
            )

    return show


def base_url(host: str, port: int, tls: bool = False) -> str:
    """The address to type into a browser on this machine for a gateway that listens on ``host``."""
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        if address.is_unspecified:
            host = "127.0.0.1" if address.version == 4 else "::1"
    scheme = "https" if tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


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
    unmet = _unmet(checks)
    if unmet is None:
        for text in useless:
            tell(text)
    return unmet


def _unmet(checks: dict[str, Any]) -> str | None:
    """One phrase for the checks of ``GET /health/ready`` that are not met yet, its models among them."""
    unmet = [f"the {role} is {checks[role]}" for role in ("store", "bus") if checks[role] != "ok"]
    for model, check in checks["models"].items():
        if check["status"] == "no_worker":
            unmet.append(f"starting the worker of {model}")
        elif check["status"] == "loading":
            unmet.append(check["stage"] or f"loading {model}")
    return ", ".join(unmet) or None


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


def check_certificate(cert: Path, key: Path) -> None:
    """Raises ``CannotStartError`` unless a server can use the certificate with its key."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")
    except OSError as error:  # ssl.SSLError among them
        text = f"CONTEXTUNE_TLS_CERT and CONTEXTUNE_TLS_KEY ({cert}, {key}) cannot be used: {error}"
        raise CannotStartError(text) from error


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
