"""The worker's side of the bus: replies, and the announcement that says it lives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Event, Thread
from typing import Final, cast

import redis
import structlog
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from app.contract.announcements import (
    ANNOUNCE,
    ANNOUNCE_EVERY_SECONDS,
    ANNOUNCEMENT_SECONDS,
    KEYS,
    WITHDRAW,
    BusClock,
)
from app.contract.messages import Announcement, Message, Request, Started

#: KEYS: the claim on one turn of a request. ARGV: worker, milliseconds that the claim holds, channel, message.
#: Returns whether the worker may begin it, which is published then.
_START: Final = """
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 0 end
redis.call('PUBLISH', ARGV[3], ARGV[4])
return 1
"""
#: How long a claim on a turn outlives the request.
_CLAIM_MARGIN_SECONDS: Final = 60.0


class WorkerBus:
    """A connection to the bus at ``url``, with bounded waits. Safe to use from any thread.

    What it announces stands under ``place``; ``clock`` is the bus's, as known since the last announcement.
    """

    def __init__(self, url: str, place: str, clock: BusClock | None = None) -> None:
        pool = redis.BlockingConnectionPool.from_url(
            url,
            max_connections=16,
            timeout=5,
            socket_timeout=5,
            socket_connect_timeout=2,
            retry=Retry(ConstantBackoff(0.1), 2),
        )
        self._client = redis.Redis(connection_pool=pool)
        self._place = place
        self.clock = clock or BusClock()

    def start(self, request: Request, worker_id: str) -> bool:
        """Say that this worker begins ``request``; False if another one has begun this turn of it already.

        Where the bus does not answer it is begun: rather twice than never.
        """
        message = Started(id=request.id, started_by=worker_id).model_dump_json()
        holds = self.clock.seconds_until(request.expires_at) + _CLAIM_MARGIN_SECONDS
        milliseconds = int(1000 * min(max(holds, 1.0), 24 * 3600.0))
        key = f"contextune:started:{request.id}:{request.turn}"
        try:
            begun = self._client.eval(_START, 1, key, worker_id, milliseconds, request.reply_to, message)
        except redis.RedisError as error:
            structlog.get_logger().warning("start_not_said", reason=str(error))
            return True
        return bool(begun)

    def reply(self, channel: str, message: Message) -> None:
        """Publish a reply. One that cannot be sent is dropped: its gateway asks again or tells its client."""
        try:
            self._client.publish(channel, message.model_dump_json())
        except redis.RedisError as error:
            structlog.get_logger().warning("reply_not_sent", reason=str(error))

    def announce(self, announcements: Sequence[Announcement]) -> None:
        """Say, for `ANNOUNCEMENT_SECONDS`, that a worker lives and what it serves. Raises ``redis.RedisError``."""
        entries = [entry for one in announcements for entry in (self._place, one.model, one.model_dump_json())]
        milliseconds = int(1000 * ANNOUNCEMENT_SECONDS)
        clock = self._client.eval(ANNOUNCE, len(KEYS), *KEYS, milliseconds, *entries)
        self.clock.note(cast("list[int]", clock))

    def withdraw(self) -> None:
        """Take the announcements back. Raises ``redis.RedisError``."""
        self._client.eval(WITHDRAW, len(KEYS), *KEYS, self._place)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


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
        if self._thread.ident is not None:
            self._thread.join(5)

    def _announce_until_stopped(self) -> None:
        while not self._stopped:
            self._say(lambda: self._bus.announce(self._describe()))
            self._now.wait(ANNOUNCE_EVERY_SECONDS)
            self._now.clear()
        self._say(self._bus.withdraw)

    def _say(self, say: Callable[[], None]) -> None:
        try:
            say()
        except (redis.RedisError, OSError) as error:
            structlog.get_logger().warning("not_announced", reason=str(error))
        except Exception as error:  # noqa: BLE001 - the thread must go on: a worker that is silent counts as dead
            structlog.get_logger().error("announcing_failed", exc_info=error)
