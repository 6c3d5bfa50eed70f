"""The gateway's side of the bus: sends Celery messages, awaits replies, knows which workers live.

The bus is volatile. A message or a reply may be lost or arrive twice, so every call here has a deadline, is sent again
when its worker dies or the bus restarts, and may be answered by whichever copy comes first. It knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from dataclasses import dataclass, field
from typing import Final

import redis.asyncio
import structlog
from celery import Celery
from kombu.exceptions import OperationalError
from pydantic import BaseModel
from redis.exceptions import RedisError

from app.contract.messages import Announcement, ClassifyBatch, PlanRequest
from app.contract.names import ANNOUNCE_EVERY, ANNOUNCE_TTL, announcement_key, broker_url, classify_queue

#: How often a waiting call looks whether its worker still lives (seconds).
_LOOK_EVERY: Final = 0.5
#: A message that no worker has begun after this long was lost by the broker, or waits behind others: send it again.
_UNTAKEN_AFTER: Final = 10.0
#: How long a call whose worker died waits for another worker to appear.
_WORKERLESS_FOR: Final = 20.0
#: Generation of a call whose message no connection has carried yet.
_NEVER_SENT: Final = -1
#: How long a new call waits for a bus that was lost or found just now, and for its workers to be announced again.
_RESTART_WITHIN: Final = 5.0


class BusUnavailable(Exception):
    """The bus does not answer."""


class NoWorker(Exception):
    """No live worker serves the model."""


class ModelUnsupported(Exception):
    """The model has a feature that contexts cannot be tuned with; the message names it."""


class WorkerLost(Exception):
    """Two workers in turn died over the same message."""


class DeadlineExceeded(Exception):
    """No reply came in time."""


@dataclass
class _Call:
    """A message that waits for its reply."""

    reply: asyncio.Future[str]
    generation: int
    sent_at: float
    taken_by: str | None = None
    #: Workers that died over it, and whether it was sent again because nobody took it.
    deaths: int = 0
    repeated: bool = False
    workerless_since: float | None = None
    unsent_since: float | None = None


class _Head(BaseModel):
    """The part of any reply that says what it is."""

    id: str
    taken_by: str | None = None


def _announcement(text: str | bytes) -> Announcement | None:
    """What a worker says of itself; None if it speaks another version of this language."""
    try:
        return Announcement.model_validate_json(text)
    except ValueError:
        structlog.get_logger().warning("unreadable_announcement")
        return None


@dataclass
class Bus:
    """A connection to the bus at ``url``; `start` before use, `stop` after."""

    url: str
    _celery: Celery = field(init=False)
    _redis: redis.asyncio.Redis = field(init=False)
    _calls: dict[str, _Call] = field(init=False, default_factory=dict)
    _announcements: list[Announcement] = field(init=False, default_factory=list)
    _looked_at: float = field(init=False, default=-math.inf)
    _tasks: list[asyncio.Task[None]] = field(init=False, default_factory=list)
    _connected: bool = field(init=False, default=False)
    _changed_at: float = field(init=False, default=-math.inf)
    _stopped: bool = field(init=False, default=False)
    #: Counts connections of the listener: replies sent while there was none are lost.
    _generation: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.reply_channel = f"contextune:reply:{secrets.token_hex(8)}"
        self._celery = Celery("contextune-gateway", broker=broker_url(self.url), set_as_current=False)
        self._celery.conf.update(
            broker_transport_options={"socket_timeout": 5, "socket_connect_timeout": 2, "max_retries": 1},
            task_publish_retry_policy={"max_retries": 1, "interval_start": 0, "interval_step": 0.1},
            task_ignore_result=True,
        )
        self._redis = redis.asyncio.Redis.from_url(
            self.url, decode_responses=True, encoding_errors="replace", socket_timeout=5, socket_connect_timeout=2
        )

    async def start(self) -> None:
        """Begin to listen. Returns at once; the bus may come up later."""
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._watch_workers())]

    async def stop(self) -> None:
        """Close the connections; calls that wait raise `BusUnavailable`."""
        self._stopped = True
        for call in self._calls.values():
            if not call.reply.done():
                call.reply.set_exception(BusUnavailable("the gateway stops"))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._redis.aclose()
        self._celery.close()

    @property
    def connected(self) -> bool:
        """Whether replies can arrive now."""
        return self._connected

    def announcements(self, model: str) -> list[Announcement]:
        """What the workers of ``model``, ready or loading, last said."""
        return [a for a in self._announcements if a.model == model]

    def live_workers(self, model: str) -> int:
        """How many workers are ready for ``model``."""
        return sum(a.ready for a in self.announcements(model))

    async def send(self, task: str, queue: str, payload: str) -> None:
        """Hand a message to the broker; raises `BusUnavailable`. Off the event loop, since Celery blocks."""
        described = f"({len(payload)} characters)"  # what Celery's logs show of the payload: no text
        options = {"args": (payload,), "argsrepr": described, "queue": queue, "ignore_result": True}
        try:
            await asyncio.to_thread(self._celery.send_task, task, **options)
        except (OperationalError, RedisError, OSError) as error:
            raise BusUnavailable(str(error)) from error

    async def call(self, task: str, request: PlanRequest | ClassifyBatch) -> str:
        """Send a request to a worker of its model and await the reply, a JSON document.

        Sent once more if its worker dies. Raises `BusUnavailable`, `NoWorker`, `ModelUnsupported`, `WorkerLost` or,
        after ``request.expires_at``, `DeadlineExceeded`.
        """
        model, queue, payload = request.model, classify_queue(request.model), request.model_dump_json()
        await self._reachable(model, request.expires_at)
        call = _Call(asyncio.get_running_loop().create_future(), self._generation, time.monotonic())
        self._calls[request.id] = call
        try:
            await self._send_for(call, task, queue, payload)
            while True:
                done, _ = await asyncio.wait({call.reply}, timeout=_LOOK_EVERY)
                if done:
                    return call.reply.result()
                if time.time() > request.expires_at:
                    raise DeadlineExceeded
                if self._must_send_again(call, model):
                    await self._send_for(call, task, queue, payload)
        finally:
            del self._calls[request.id]

    async def _reachable(self, model: str, expires_at: float) -> None:
        """Return when a worker can be reached, which may just be coming back. Raises what `call` says."""
        while not (self._connected and self.live_workers(model)):
            for announcement in self.announcements(model):
                if announcement.unsupported is not None:
                    raise ModelUnsupported(announcement.unsupported)
            if self._stopped:
                raise BusUnavailable("the gateway stops")
            if time.monotonic() - self._changed_at > _RESTART_WITHIN:
                raise NoWorker(model) if self._connected else BusUnavailable("not connected")
            if time.time() > expires_at:
                raise DeadlineExceeded
            await asyncio.sleep(_LOOK_EVERY / 5)

    async def _send_for(self, call: _Call, task: str, queue: str, payload: str) -> None:
        """Send a call's message. One that cannot be sent, since the bus was lost just now, is sent when it is back."""
        try:
            await self.send(task, queue, payload)
            call.unsent_since = None
        except BusUnavailable:
            now = time.monotonic()
            call.unsent_since = call.unsent_since or now
            if now - call.unsent_since > _RESTART_WITHIN:
                raise
            call.generation = _NEVER_SENT

    def _must_send_again(self, call: _Call, model: str) -> bool:
        now = time.monotonic()
        if not self._connected:
            return False
        self._note_workers(call, model, now)
        if call.generation != self._generation:  # the bus restarted: message and reply may both be gone
            call.generation, call.sent_at, call.taken_by = self._generation, now, None
            return True
        died = call.taken_by is not None and all(a.worker_id != call.taken_by for a in self._announcements)
        untaken = call.taken_by is None and now - call.sent_at > _UNTAKEN_AFTER and self.live_workers(model) > 0
        if died:
            call.deaths += 1
        elif untaken and not call.repeated:
            call.repeated = True
        else:
            return False
        if call.deaths > 1:
            raise WorkerLost(model)
        call.sent_at, call.taken_by = now, None
        return True

    def _note_workers(self, call: _Call, model: str, now: float) -> None:
        if self.live_workers(model):
            call.workerless_since = None
        elif call.workerless_since is None:
            call.workerless_since = now
        elif now - call.workerless_since > _WORKERLESS_FOR:
            raise NoWorker(model)

    async def _listen(self) -> None:
        log = structlog.get_logger()
        while not self._stopped:  # a cancel can be lost inside redis-py's connect
            try:
                await self._deliver_replies()
            except (RedisError, OSError):
                pass  # `_watch_workers` reports it
            except Exception as error:
                # Without a listener no call would ever be answered.
                log.error("listening_failed", exc_info=error)
            finally:
                self._note_connected(False)
            await asyncio.sleep(0.2)

    async def _deliver_replies(self) -> None:
        async with self._redis.pubsub() as pubsub:
            await pubsub.subscribe(self.reply_channel)
            self._generation += 1
            self._note_connected(True)
            while not self._stopped:
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1.0)
                if message is not None:
                    self._deliver(message["data"])

    def _note_connected(self, connected: bool) -> None:
        if connected != self._connected:
            self._connected, self._changed_at = connected, time.monotonic()

    def _deliver(self, text: str) -> None:
        """Hand a reply to its call. Replies to calls that have ended are dropped: the other copy was faster."""
        try:
            head = _Head.model_validate_json(text)
        except ValueError:
            structlog.get_logger().warning("unreadable_reply")
            return
        call = self._calls.get(head.id)
        if call is None:
            return
        if head.taken_by is not None:
            call.taken_by = head.taken_by
        elif not call.reply.done():
            call.reply.set_result(text)

    async def _watch_workers(self) -> None:
        log = structlog.get_logger()
        while not self._stopped:
            try:
                await self._look_at_workers()
            except (RedisError, OSError) as error:
                log.warning("bus_unavailable", reason=str(error))
            except Exception as error:
                # Workers that are not seen get no work.
                log.error("watching_failed", exc_info=error)
            if time.monotonic() - self._looked_at > ANNOUNCE_TTL:  # until then what was seen last is still good
                self._announcements = []
            await asyncio.sleep(ANNOUNCE_EVERY / 3)

    async def _look_at_workers(self) -> None:
        keys = [key async for key in self._redis.scan_iter(match=announcement_key("*"), count=1000)]
        values = await self._redis.mget(keys) if keys else []
        self._announcements = [a for value in values if value and (a := _announcement(value))]
        self._looked_at = time.monotonic()
