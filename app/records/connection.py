"""The connection to the store: a client with bounded waits, and the scripts run on it.

It knows nothing of what is stored. A change is either whole or absent, and may be repeated safely: where the answer is
lost the client sends it again.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, cast

import redis
from redis.backoff import ExponentialBackoff
from redis.cluster import RedisCluster
from redis.commands.core import Script
from redis.retry import Retry

from app.records.scripts import source

_CONNECTIONS: Final = 64
#: How often is asked whether a file is gone that is being removed.
POLL_SECONDS: Final = 0.1
_SECONDS: Final = 5

#: Everything in the store has this hash tag, so that a store in cluster mode keeps it on one node.
HASH_TAG: Final = "{ct}"


AnyClient = redis.Redis | RedisCluster


class StoreUnavailable(Exception):
    """The store did not answer, or refused to write, within the deadline."""


class StoreRefused(StoreUnavailable):
    """The store answers and must not be used, for the reason in the text."""


class _Client(redis.Redis):
    """A client that knows its URL, for the case that the server turns out to be one of a cluster."""

    def __init__(self, url: str, seconds: float) -> None:
        self.url, self.waits = url, _waits(seconds)
        pool = redis.BlockingConnectionPool.from_url(url, max_connections=_CONNECTIONS, timeout=_SECONDS, **self.waits)
        super().__init__(connection_pool=pool)
        self.auto_close_connection_pool = True  # nobody else has it: `close` closes its connections


def connect(url: str, seconds: float = _SECONDS) -> redis.Redis:
    """A client of the store with a bounded pool that queues instead of raising.

    It waits ``seconds`` for an answer, twice at most.
    """
    return _Client(url, seconds)


def _waits(seconds: float) -> dict[str, Any]:
    return {
        "decode_responses": True,
        "socket_timeout": seconds,
        "socket_connect_timeout": _SECONDS,
        "retry": Retry(ExponentialBackoff(cap=0.5, base=0.05), 1),
    }


def _of_cluster(client: redis.Redis) -> redis.Redis | RedisCluster:
    """The client itself, or one that asks the node which has our keys where the server is one of a cluster."""
    try:
        in_cluster = client.info("cluster").get("cluster_enabled")
    except redis.ResponseError as error:
        if not str(error).startswith(("DB index", "SELECT is not allowed")):
            raise
        raise StoreRefused(
            "the store does not have the database of its URL; in cluster mode there is database 0 alone"
        ) from error
    if not in_cluster or not isinstance(client, _Client):
        return client
    return RedisCluster.from_url(client.url, max_connections=_CONNECTIONS, **client.waits)


def new_id(kind: str) -> str:
    """A fresh id such as ``ctx_…``: 96 random bits."""
    return f"{kind}_{secrets.token_hex(12)}"


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn what the client raises for a store that does not serve into `StoreUnavailable`."""
    try:
        yield
    except (
        redis.ConnectionError,
        redis.TimeoutError,
        redis.exceptions.OutOfMemoryError,
        redis.exceptions.ReadOnlyError,
        redis.exceptions.ClusterError,
        redis.exceptions.RedisClusterException,
    ) as error:
        raise StoreUnavailable(str(error)) from error
    except redis.ResponseError as error:
        if str(error).startswith(("BUSY", "MISCONF", "NOREPLICAS", "OOM")):
            raise StoreUnavailable(str(error)) from error
        if str(error).startswith("RESTORING"):
            raise StoreRefused(
                "the store is being restored: where that broke off, run `contextune restore` again"
            ) from error
        raise


class Store:
    """The scripts, run on ``client`` (from `connect`), which ``take_up`` checks before it is first used."""

    def __init__(self, client: redis.Redis, take_up: Callable[[AnyClient], object]) -> None:
        self._client: AnyClient = client
        self._take_up = take_up
        self._taken_up = False
        self._scripts: dict[str, Script] = {}

    def take_up(self) -> None:
        """Check the store unless that was done. Raises `StoreUnavailable`."""
        if not self._taken_up:
            with store_errors():
                client = _of_cluster(cast("redis.Redis", self._client))
                self._take_up(client)
            self._client = client
            self._taken_up = True

    def run(self, script: str, *args: str | int | float) -> Any:
        """The answer of a script. Raises `StoreUnavailable`."""
        self.take_up()
        if script not in self._scripts:
            self._scripts[script] = self._client.register_script(source(script))
        with store_errors():
            return self._scripts[script](keys=[HASH_TAG], args=args)

    def events(self, tenant: str, job_id: str, first: int, last: int) -> list[str]:
        """A range of the events of a job as stored. Raises `StoreUnavailable`."""
        with store_errors():
            return cast("list[str]", self._client.lrange(f"{HASH_TAG}:t:{tenant}:events:{job_id}", first, last))

    def spec(self, tenant: str, context_id: str) -> str | None:
        """The address of the spec of a context. Raises `StoreUnavailable`."""
        with store_errors():
            return cast("str | None", self._client.hget(f"{HASH_TAG}:t:{tenant}:context:{context_id}", "spec"))

    def every_key(self) -> Iterator[str]:
        """Every key of ours without the hash tag, some twice; for programs, not for requests."""
        self.take_up()
        with store_errors():
            for key in self._client.scan_iter(match=f"{HASH_TAG}:*", count=1000):
                yield str(key).removeprefix(f"{HASH_TAG}:")

    def remove(self, keys: Sequence[str]) -> None:
        """Remove keys, given without the hash tag. Raises `StoreUnavailable`."""
        with store_errors():
            self._client.unlink(*(f"{HASH_TAG}:{key}" for key in keys))

    def ping(self) -> None:
        """Return when the store answers. Raises `StoreUnavailable`."""
        self.take_up()
        with store_errors():
            self._client.ping()
