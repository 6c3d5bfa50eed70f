"""The worker's side of the bus: replies, and the announcement that says it lives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Event, Thread

import redis
import structlog
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from app.contract.messages import Announcement
from app.contract.names import ANNOUNCE_EVERY, ANNOUNCE_TTL, announcement_key
from app.contract.payload import Payload


class WorkerBus:
    """A connection to the bus at ``url``, with bounded waits. Safe to use from any thread."""

    def __init__(self, url: str) -> None:
        pool = redis.BlockingConnectionPool.from_url(
            url,
            max_connections=16,
            timeout=5,
            socket_timeout=5,
            socket_connect_timeout=2,
            retry=Retry(ConstantBackoff(0.1), 2),
        )
        self._client = redis.Redis(connection_pool=pool)

    def reply(self, channel: str, message: Payload) -> None:
        """Publish a reply. One that cannot be sent is dropped: its gateway asks again or tells its client."""
        try:
            self._client.publish(channel, message.model_dump_json())
        except redis.RedisError as error:
            structlog.get_logger().warning("reply_not_sent", reason=str(error))

    def announce(self, announcement: Announcement) -> None:
        """Say, for `ANNOUNCE_TTL` seconds, that a worker lives and what it serves. Raises ``redis.RedisError``."""
        key = announcement_key(f"{announcement.worker_id}:{announcement.model}")
        self._client.set(key, announcement.model_dump_json(), ex=ANNOUNCE_TTL)

    def withdraw(self, announcement: Announcement) -> None:
        """Take an announcement back. Raises ``redis.RedisError``."""
        self._client.delete(announcement_key(f"{announcement.worker_id}:{announcement.model}"))


class Announcer:
    """Announces what ``describe`` returns, from a thread of its own, until `stop`."""

    def __init__(self, bus: WorkerBus, describe: Callable[[], Sequence[Announcement]]) -> None:
        self._bus = bus
        self._describe = describe
        self._now = Event()
        self._stopped = False
        self._thread = Thread(target=self._announce_until_stopped, name="announcer", daemon=True)

    def start(self) -> None:
        """Begin to announce."""
        self._thread.start()

    def announce_now(self) -> None:
        """Do not wait for the next turn: something has changed."""
        self._now.set()

    def stop(self) -> None:
        """Withdraw the announcements and end."""
        self._stopped = True
        self._now.set()
        self._thread.join(5)

    def _announce_until_stopped(self) -> None:
        while not self._stopped:
            self._each(self._bus.announce)
            self._now.wait(ANNOUNCE_EVERY)
            self._now.clear()
        self._each(self._bus.withdraw)

    def _each(self, say: Callable[[Announcement], None]) -> None:
        try:
            for announcement in self._describe():
                say(announcement)
        except Exception as error:  # noqa: BLE001 - the thread must go on: a worker that is silent counts as dead
            structlog.get_logger().warning("not_announced", reason=str(error))
