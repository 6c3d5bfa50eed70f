"""What a store must be: of a release that has what is used, never evicting, with every write in its append-only file.

It reads what a managed server lets it read; what it cannot read is a warning.
"""

from __future__ import annotations

from typing import Any, Final, cast

import redis
import structlog

from app.records.connection import HASH_TAG, AnyClient, Store, StoreRefused, StoreUnavailable, connect, store_errors
from app.records.scripts import source

#: What this program writes, and the oldest that a program must read to use a store that holds it. A program stops only
#: below ``min_reader``, which rises one release after the format.
FORMAT: Final = 1
MIN_READER: Final = 1

_OLDEST_SERVER: Final = (7, 2)
_KEYS_OF_0_1: Final = ("ct:contexts", "ct:jobs", "ct:sequence")


def take_up(client: AnyClient) -> list[str]:
    """Check the store and note its format; returns what may lose records all the same. Raises `StoreRefused`."""
    doubts = take_up_for_restore(client)
    if client.exists(f"{HASH_TAG}:restoring"):
        raise StoreRefused("the store was not restored to its end: run `contextune restore` again")
    return doubts


def take_up_for_restore(client: AnyClient) -> list[str]:
    """The same for a store whose restore may be under way."""
    node = {} if isinstance(client, redis.Redis) else {"target_nodes": client.get_node_from_key(HASH_TAG)}  # type: ignore[no-untyped-call]
    config, info = _config(client, node), client.info(**node)
    _check_server(str(info.get("redis_version", "")))
    _check_data(client, config)
    policy = config.get("maxmemory-policy") or info.get("maxmemory_policy")
    if policy not in (None, "noeviction"):
        raise StoreRefused(f"the store may evict records (maxmemory-policy {policy}): set it to noeviction")
    appends = {"yes": True, "no": False, 1: True, 0: False}.get(config.get("appendonly", info.get("aof_enabled")))
    if appends is False:
        raise StoreRefused("the store keeps records in memory alone (appendonly no): set appendonly to yes")
    most = config.get("maxmemory", info.get("maxmemory"))
    _check_format(client)
    doubts = {
        "maxmemory-policy cannot be read": policy is None,
        "appendonly cannot be read": appends is None,
        "maxmemory is 0: the store may take all memory of its machine": most is not None and int(most) == 0,
        "maxmemory cannot be read": most is None,
        "appendfsync is not always: a crash may lose the last writes": config.get("appendfsync") in ("everysec", "no"),
        "appendfsync cannot be read": "appendfsync" not in config,
    }
    return [doubt for doubt, is_so in doubts.items() if is_so]


def refusal(url: str) -> str | None:
    """Why the store at this URL must not be used; None also for one that does not answer yet, as it may come up.

    Logs a warning of what may lose records.
    """
    client, doubts = connect(url), list[str]()
    try:
        Store(client, lambda given: doubts.extend(take_up(given))).take_up()
    except StoreRefused as error:
        return str(error)
    except StoreUnavailable:
        return None
    finally:
        client.close()
    if doubts:
        structlog.get_logger().warning("store_may_lose_records", doubts=doubts)
    return None


def bus_refusal(url: str) -> str | None:
    """Why the server at this URL must not be the bus; None also for one that does not answer yet."""
    client = connect(url)
    try:
        with store_errors():
            in_cluster = client.info("cluster").get("cluster_enabled")
    except (StoreUnavailable, redis.ResponseError):
        return None
    finally:
        client.close()
    return "the bus is in cluster mode, which Celery cannot use: give it a server of its own" if in_cluster else None


def _config(client: AnyClient, node: dict[str, Any]) -> dict[str, str]:
    """The settings that are of interest; none where a managed server denies the command."""
    try:
        return cast("dict[str, str]", client.config_get("maxmemory*", "append*", "dir", **node))
    except redis.ResponseError:
        return {}


def _check_server(version: str) -> None:
    parts = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if parts < _OLDEST_SERVER:
        raise StoreRefused(f"the store is a server of version {version or 'unknown'}: 7.2 or newer is needed")


def _check_data(client: AnyClient, config: dict[str, str]) -> None:
    if any(client.exists(key) for key in _KEYS_OF_0_1):
        where = f"move the folder {config['dir']} away" if config.get("dir") else "give it an empty database"
        raise StoreRefused(f"the store holds data of Contextune 0.1, which this release does not read: {where}")


def _check_format(client: AnyClient) -> None:
    answer = client.register_script(source("start"))(keys=[HASH_TAG], args=[FORMAT, MIN_READER])
    store_format, min_reader = cast("tuple[str, str]", answer)
    if int(min_reader) > FORMAT:
        raise StoreRefused(
            f"the store has format {store_format}, written by a newer release of Contextune; "
            f"this one reads up to {FORMAT}: use that release"
        )
