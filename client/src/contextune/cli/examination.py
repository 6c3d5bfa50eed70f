"""What is wrong with a service as this client sees it, and with the client itself. It shows no key.

Each check stands for itself; the first that finds no service ends those that need one.
"""

from __future__ import annotations

import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from contextune.cli import settings
from contextune.cli.session import Target
from contextune.client import Contextune
from contextune.errors import (
    AuthenticationError,
    ContextuneError,
    PermissionDeniedError,
    ServiceUnreachableError,
)
from contextune.version import VERSION

_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")

State = Literal["ok", "warning", "wrong"]


@dataclass(frozen=True)
class Finding:
    """What a check found, and how to mend it where something is the matter."""

    check: str
    state: State
    found: str
    mend: str | None = None


def examine_client(target: Target) -> Iterator[Finding]:
    """The client's release, and which service and key it takes from where."""
    yield Finding("client", "ok", f"Python {sys.version.split()[0]}, contextune {VERSION}")
    yield Finding("address", "ok", f"{target.url} ({target.url_from or 'the default'})")
    file = settings.path()
    if file.exists() and (mode := stat.S_IMODE(file.stat().st_mode)) & 0o077:
        yield Finding("key", "wrong", f"{file} can be read by others (mode {mode:o})", f"chmod 600 {file}")
    if target.key is None:
        yield Finding("key", "ok", "none: a service on this machine needs none until its first key is made")
        return
    yield Finding("key", "ok", f"that of {target.key_from}")
    address = urlsplit(target.url)
    if address.scheme == "http" and address.hostname not in _LOOPBACK:
        yield Finding("key", "warning", "the key travels over plain HTTP", "use an address that begins with https://")


def examine_service(client: Contextune, *, with_key: bool = True) -> Iterator[Finding]:
    """Whether the service answers, of which release it is, whether it can work, and takes the key."""
    try:
        yield from _answering(client)
    except ServiceUnreachableError as error:
        mend = "start it with `contextune up`, or name another: --url, CONTEXTUNE_URL, `contextune config set url`"
        yield Finding("service", "wrong", str(error), mend)
        return
    except ContextuneError as error:
        mend = "name the service's address: --url, CONTEXTUNE_URL, `contextune config set url`"
        yield Finding("service", "wrong", f"what answers there is not this service: {error}", mend)
        return
    yield from _ready(client)
    if with_key:
        yield from _permitted(client)


def _answering(client: Contextune) -> Iterator[Finding]:
    client.live()
    began = time.perf_counter()
    client.live()
    took = time.perf_counter() - began
    found = f"answers in {took * 1000:.0f} ms, release {(release := client.release())}"
    if release != VERSION:
        yield Finding("service", "warning", f"{found}, this client {VERSION}", "install one release everywhere")
    else:
        yield Finding("service", "ok", found)


def _ready(client: Contextune) -> Iterator[Finding]:
    checks = client.ready().checks
    models = checks.get("models")
    for name, state in checks.items():
        if name != "models" and state != "ok":
            mend = "run `contextune doctor` where the service is installed, or read its log"
            yield Finding(name, "wrong", f"the service says: {state}", mend)
    for model, state in models.items() if isinstance(models, dict) else ():
        yield _model(model, state if isinstance(state, dict) else {})


def _model(model: str, state: dict[str, Any]) -> Finding:
    workers, status = state.get("workers") or 0, str(state.get("status", "unknown"))
    stage = f", {state['stage']}" if state.get("stage") else ""
    if status == "ready":
        devices = ", ".join(str(one.get("id")) for one in state.get("devices") or ())
        return Finding("workers", "ok", f"{model}: {workers} ready on {devices or 'unknown devices'}")
    if workers:
        return Finding("workers", "warning", f"{model}: {status}{stage}", "wait until it is loaded")
    mend = "see the log of its workers, or start one with `contextune up`"
    return Finding("workers", "wrong", f"{model}: {status}{stage}", mend)


def _permitted(client: Contextune) -> Iterator[Finding]:
    try:
        next(iter(client.models.list()), None)
    except AuthenticationError as error:
        mend = "set CONTEXTUNE_API_KEY, or `contextune config set key`; `contextune keys create` makes one"
        yield Finding("key", "wrong", error.detail, mend)
    except PermissionDeniedError as error:
        yield Finding(
            "key", "warning", error.detail, "the key is valid, but may not classify: take one with that scope"
        )
    except ContextuneError as error:
        yield Finding("key", "wrong", f"this could not be checked: {error}")
    else:
        yield Finding("key", "ok", "requests are allowed")
