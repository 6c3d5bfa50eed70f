"""The feed of changes: which jobs something has just happened to.

One subscription to the store for a whole gateway, however many requests wait. What is sent while the subscription is
lost is lost too, so whoever follows a job looks at it anew at times. It knows no records, only names of jobs.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import redis.asyncio
import structlog
from redis.exceptions import RedisError

from app.records.connection import HASH_TAG

_CHANNEL: Final = f"{HASH_TAG}:events"
#: A job that is followed is looked at again after this long at most, whatever the feed says.
_LOOK_SECONDS: Final = 10.0
_RECONNECT_SECONDS: Final = 0.5


@dataclass(eq=False)
class Follower:
    """Somebody who wants to know when something happens to a job, and looks every ``look_seconds`` all the same."""

    look_seconds: float = _LOOK_SECONDS
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        """Something has happened, or may have."""
        self._changed.set()

    async def changed(self) -> None:
        """Return once something has happened since the last time, or it is time to look all the same."""
        seconds = self.look_seconds * random.uniform(0.8, 1.0)  # noqa: S311 - so that not all look at once
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass
        self._changed.clear()


@dataclass
class Feed:
    """The subscription to the store at ``url``; `start` before use, `stop` after.

    Who follows a job looks at it every ``look_seconds`` whatever is told here.
    """

    url: str
    look_seconds: float = _LOOK_SECONDS
    _followers: dict[str, set[Follower]] = field(init=False, default_factory=dict)
    _task: asyncio.Task[None] | None = field(init=False, default=None)
    _stopped: bool = field(init=False, default=False)

    def start(self) -> None:
        """Begin to listen. The store may come up later."""
        self._task = asyncio.create_task(self._listen())

    async def stop(self) -> None:
        """End the subscription, and wake everybody."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._wake_all()

    @contextmanager
    def follow(self, tenant: str, job_id: str) -> Iterator[Follower]:
        """Follow a job. What happened before is not told: look at the job once within."""
        name, follower = f"{tenant}:{job_id}", Follower(self.look_seconds)
        self._followers.setdefault(name, set()).add(follower)
        try:
            yield follower
        finally:
            rest = self._followers[name]
            rest.discard(follower)
            if not rest:
                del self._followers[name]

    async def _listen(self) -> None:
        client = redis.asyncio.Redis.from_url(
            self.url, decode_responses=True, encoding_errors="replace", socket_timeout=5, socket_connect_timeout=2
        )
        try:
            while not self._stopped:  # a cancel can be lost inside redis-py's connect
                try:
                    await self._deliver(client)
                except (RedisError, OSError):
                    pass  # what reads the store reports it
                except Exception as error:  # noqa: BLE001
                    # Without the feed every wait would take until the next look.
                    structlog.get_logger().error("feed_failed", exc_info=error)
                await asyncio.sleep(_RECONNECT_SECONDS)
        finally:
            await client.aclose()

    async def _deliver(self, client: redis.asyncio.Redis) -> None:
        async with client.pubsub() as subscription:
            await subscription.subscribe(_CHANNEL)
            self._wake_all()  # for what was missed
            while not self._stopped:
                message = await subscription.get_message(ignore_subscribe_messages=True, timeout=1.0)
                for follower in self._followers.get(message["data"], ()) if message else ():
                    follower.wake()

    def _wake_all(self) -> None:
        for followers in self._followers.values():
            for follower in followers:
                follower.wake()
