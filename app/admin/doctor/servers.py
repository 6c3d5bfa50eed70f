"""Store and bus, and the workers that announce themselves there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any, Final, cast

import redis
from contextune.cli.examination import Finding
from pydantic import ValidationError

from app.config import Settings
from app.contract.announcements import KEYS, LIVE
from app.contract.messages import Announcement
from app.records.connection import StoreRefused, connect
from app.records.requirements import bus_refusal, take_up

_CLOCK_SECONDS: Final = 5.0
_SLOW_SECONDS: Final = 0.05
_PINGS: Final = 5
_MIB: Final = 1024**2
_NEARLY_FULL: Final = 0.9


def store(url: str) -> Iterator[Finding]:
    """Whether the store keeps what it is given, and is near."""
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
    yield _persistence(client, info)
    for doubt in doubts:
        yield Finding("store", "warning", doubt, "see docs/operations.md, The store")
    if behind > _CLOCK_SECONDS:
        found = f"this machine's clock and the store's are {behind:.0f} s apart"
        yield Finding("clock", "warning", found, "set both by NTP; answers show the store's times")
    else:
        yield Finding("clock", "ok", "as the store's")
    yield _latency("store", client)
    client.close()


def _persistence(client: redis.Redis, info: dict[str, Any]) -> Finding:
    """How the store writes its append-only file, whether the last write went well, and its memory against its bound."""
    try:
        config = cast("dict[str, str]", client.config_get("appendfsync"))
    except redis.ResponseError:  # a managed server denies it
        config = {}
    append = f"appendonly {'yes' if info.get('aof_enabled') else 'no'}, appendfsync {config.get('appendfsync', '?')}"
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    bound = f"of maxmemory {most / _MIB:,.0f} MiB" if most else "and maxmemory 0, which is no bound"
    found = f"{append}; uses {used / _MIB:,.0f} MiB {bound}"
    if info.get("aof_last_write_status", "ok") != "ok":
        return Finding("store", "wrong", f"{found}; the last write to its file failed", "make room on the store's disk")
    if most and used > _NEARLY_FULL * most:
        return Finding("store", "warning", found, "raise maxmemory, or delete contexts and jobs")
    return Finding("store", "ok", found)


def bus(url: str) -> Iterator[Finding]:
    """Whether the bus can be used, and is near."""
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


def workers(settings: Settings, bus_url: str) -> Iterator[Finding]:
    """Which workers announce themselves, and of which release they are."""
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
