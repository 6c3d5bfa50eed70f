"""What a store must be: of a release that has what is used, never evicting, with every write in its append-only file.

It reads what a managed server lets it read; what it cannot read is a warning.
"""

from __future__ import annotations

from typing import Final, cast

import redis
import structlog

from app.records.connection import HASH_TAG, StoreUnavailable, connect, store_errors
from app.records.scripts import source

#: What this program writes, and the oldest that a program must read to use a store that holds it. A program stops only
#: below ``min_reader``, which rises one release after the format.
FORMAT: Final = 1
MIN_READER: Final = 1

_OLDEST_SERVER: Final = (7, 2)
_KEYS_OF_0_1: Final = ("ct:contexts", "ct:jobs", "ct:sequence")


class StoreRefused(StoreUnavailable):
    """The store answers and must not be used, for the reason in the text."""


def take_up(client: redis.Redis) -> None:
    """Check the store and note its format; warn of what may lose records. Raises `StoreRefused`."""
    config, info = _config(client), client.info()
    _check_server(str(info.get("redis_version", "")))
    _check_data(client, config)
    policy = config.get("maxmemory-policy") or info.get("maxmemory_policy")
    if policy not in (None, "noeviction"):
        raise StoreRefused(f"the store may evict records (maxmemory-policy {policy}): set it to noeviction")
    appends = {"yes": True, "no": False, 1: True, 0: False}.get(config.get("appendonly", info.get("aof_enabled")))
    if appends is False:
        raise StoreRefused("the store keeps records in memory alone (appendonly no): set appendonly to yes")
    most = config.get("maxmemory", info.get("maxmemory"))
    _warn(
        policy_unknown=policy is None,
        append_only_file_unknown=appends is None,
        memory_unbounded=most is not None and int(most) == 0,
        memory_bound_unknown=most is None,
        a_crash_may_lose_a_second_of_writes=config.get("appendfsync") in ("everysec", "no"),
        fsync_policy_unknown="appendfsync" not in config,
    )
    _check_format(client)


def refusal(url: str) -> str | None:
    """Why the store at this URL must not be used; None also for one that does not answer yet, as it may come up."""
    client = connect(url)
    try:
        with store_errors():
            take_up(client)
    except StoreRefused as error:
        return str(error)
    except StoreUnavailable:
        return None
    finally:
        client.close()
    return None


def _config(client: redis.Redis) -> dict[str, str]:
    """The settings that are of interest; none where a managed server denies the command."""
    try:
        return cast("dict[str, str]", client.config_get("maxmemory*", "append*", "dir"))
    except redis.ResponseError:
        return {}


def _check_server(version: str) -> None:
    parts = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if parts < _OLDEST_SERVER:
        raise StoreRefused(f"the store is a server of version {version or 'unknown'}: 7.2 or newer is needed")


def _check_data(client: redis.Redis, config: dict[str, str]) -> None:
    if any(client.exists(key) for key in _KEYS_OF_0_1):
        where = f"move the folder {config['dir']} away" if config.get("dir") else "give it an empty database"
        raise StoreRefused(f"the store holds data of Contextune 0.1, which this release does not read: {where}")


def _warn(**warnings: bool) -> None:
    """Log what is the case."""
    if found := [name.replace("_", " ") for name, is_so in warnings.items() if is_so]:
        structlog.get_logger().warning("store_may_lose_records", reasons=found)


def _check_format(client: redis.Redis) -> None:
    answer = client.register_script(source("start"))(keys=[HASH_TAG], args=[FORMAT, MIN_READER])
    store_format, min_reader = cast("tuple[str, str]", answer)
    if int(min_reader) > FORMAT:
        raise StoreRefused(
            f"the store has format {store_format}, written by a newer release of Contextune; "
            f"this one reads up to {FORMAT}: use that release"
        )
