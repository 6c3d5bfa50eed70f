"""The connection to the store: a client with bounded waits, and the scripts run on it.

It knows nothing of what is stored. A change is either whole or absent, and may be repeated safely.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

import redis
from redis.backoff import ExponentialBackoff
from redis.commands.core import Script
from redis.retry import Retry

from app.records.scripts import source

#: Everything in the store has this hash tag, so that a store in cluster mode keeps it on one node.
HASH_TAG: Final = "{ct}"


class StoreUnavailable(Exception):
    """The store did not answer, or refused to write, within the deadline."""


def connect(url: str) -> redis.Redis:
    """A client of the store with bounded waits (5 s, tried twice) and a bounded pool that queues instead of raising."""
    pool = redis.BlockingConnectionPool.from_url(
        url,
        max_connections=64,
        timeout=5,
        decode_responses=True,
        socket_timeout=5,
        socket_connect_timeout=5,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 1),
    )
    return redis.Redis(connection_pool=pool)


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
    ) as error:
        raise StoreUnavailable(str(error)) from error
    except redis.ResponseError as error:
        if str(error).startswith(("MISCONF", "NOREPLICAS", "OOM")):
            raise StoreUnavailable(str(error)) from error
        raise


class Store:
    """The scripts, run on ``client`` (from `connect`), which ``take_up`` checks before it is first used."""

    def __init__(self, client: redis.Redis, take_up: Callable[[redis.Redis], None]) -> None:
        self._client = client
        self._take_up = take_up
        self._taken_up = False
        self._scripts: dict[str, Script] = {}

    def take_up(self) -> None:
        """Check the store unless that was done. Raises `StoreUnavailable`."""
        if not self._taken_up:
            with store_errors():
                self._take_up(self._client)
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
        """The spec of a context as stored. Raises `StoreUnavailable`."""
        with store_errors():
            return cast("str | None", self._client.get(f"{HASH_TAG}:t:{tenant}:spec:{context_id}"))

    def names(self, tenant: str, most: int) -> list[str]:
        """The names of a tenant that can answer, newest first. Raises `StoreUnavailable`."""
        with store_errors():
            return cast("list[str]", self._client.zrevrange(f"{HASH_TAG}:t:{tenant}:names", 0, most - 1))

    def ping(self) -> None:
        """Return when the store answers. Raises `StoreUnavailable`."""
        self.take_up()
        with store_errors():
            self._client.ping()
