"""The gateway's side of the bus: sends Celery messages, awaits replies, asks again where one may be lost.

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

from app.classification.workers import LiveWorkers
from app.contract.messages import Announcement, Failure, Refusal, Request
from app.contract.names import broker_url

#: How often a waiting call looks whether its worker still lives.
_LOOK_SECONDS: Final = 0.5
#: A message that no worker has begun after this long was lost by the broker, or waits behind others: send it again.
_UNTAKEN_SECONDS: Final = 10.0
#: How long a call waits for another worker to be announced once the last one is gone: it is being started again.
_WORKERLESS_SECONDS: Final = 20.0
#: Generation of a call whose message no connection has carried yet.
_NEVER_SENT: Final = -1
#: How long a new call waits for a bus that was lost or found just now, and for its workers to be announced again.
_RESTART_SECONDS: Final = 5.0


class BusUnavailable(Exception):
    """The bus does not answer."""


class NoWorker(Exception):
    """No live worker serves the model, or those that do take other requests."""


class ModelUnsupported(Exception):
    """The model has a feature that contexts cannot be tuned with; the message names it."""


class WorkerLost(Exception):
    """Two workers in turn died over the same message."""


class DeadlineExceeded(Exception):
    """No reply came in time."""


class Refused(Exception):
    """A worker could not do what a request asks, for the reason in ``failure``."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@dataclass
class _Call:
    """A request that waits for its reply until ``deadline`` on the monotonic clock."""

    request: Request
    reply: asyncio.Future[str]
    deadline: float
    generation: int
    sent_at: float
    started_by: str | None = None
    #: Times that it was begun and lost; workers that died over it; whether it was sent again because none began it.
    turn: int = 0
    deaths: int = 0
    repeated: bool = False
    workers_seen_at: float | None = None
    unsent_since: float | None = None


class _Head(BaseModel):
    """The part of anything on the reply channel that says what it is."""

    id: str
    started_by: str | None = None
    refusal: object = None


@dataclass
class Bus:
    """A connection to the bus at ``url``; `start` before use, `stop` after.

    A call waits ``workerless_seconds`` for another worker to be announced once the last one is gone, and then for it to
    be ready. A message that no worker has begun after ``untaken_seconds`` is sent once more. A bus that was lost or
    found less than ``restart_seconds`` ago, and its workers, are waited for.
    """

    url: str
    workerless_seconds: float = _WORKERLESS_SECONDS
    untaken_seconds: float = _UNTAKEN_SECONDS
    restart_seconds: float = _RESTART_SECONDS
    _celery: Celery = field(init=False)
    _redis: redis.asyncio.Redis = field(init=False)
    _workers: LiveWorkers = field(init=False)
    _calls: dict[str, _Call] = field(init=False, default_factory=dict)
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
        self._workers = LiveWorkers(self._redis)

    async def start(self) -> None:
        """Begin to listen. Returns at once; the bus may come up later."""
        watching = self._workers.watch(lambda: self._stopped)
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(watching)]

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
        return self._workers.announcements(model)

    def live_workers(self, model: str) -> int:
        """How many workers are ready for ``model``."""
        return self._workers.count(model)

    async def send(self, task: str, queue: str, payload: str) -> None:
        """Hand a message to the broker; raises `BusUnavailable`. Off the event loop, since Celery blocks."""
        described = f"({len(payload)} characters)"  # what Celery's logs show of the payload: no text
        options = {"args": (payload,), "argsrepr": described, "queue": queue, "ignore_result": True}
        try:
            await asyncio.to_thread(self._celery.send_task, task, **options)
        except (OperationalError, RedisError, OSError) as error:
            raise BusUnavailable(str(error)) from error

    async def call(self, request: Request, seconds: float) -> str:
        """Send a request to a worker of its model and await the reply, a JSON document, for so many seconds.

        Sent once more if its worker dies. Raises `BusUnavailable`, `NoWorker`, `ModelUnsupported`, `WorkerLost`,
        `Refused` by a worker that cannot read it, or `DeadlineExceeded`.
        """
        deadline = time.monotonic() + seconds
        await self._reachable(request.model, deadline)
        reply: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        call = _Call(request, reply, deadline, self._generation, time.monotonic())
        self._calls[request.id] = call
        try:
            await self._send_for(call)
            while True:
                done, _ = await asyncio.wait({call.reply}, timeout=_LOOK_SECONDS)
                if done:
                    return call.reply.result()
                if time.monotonic() > deadline:
                    raise DeadlineExceeded
                if self._must_send_again(call):
                    await self._send_for(call)
        finally:
            del self._calls[request.id]

    async def _reachable(self, model: str, deadline: float) -> None:
        """Return when a worker can be reached, which may just be coming back. Raises what `call` says."""
        while not (self._connected and self.live_workers(model)):
            for announcement in self.announcements(model):
                if announcement.unsupported is not None:
                    raise ModelUnsupported(announcement.unsupported)
            if self._stopped:
                raise BusUnavailable("the gateway stops")
            died_lately = self._connected and self._workers.seconds_without(model) < self.workerless_seconds
            if time.monotonic() - self._changed_at > self.restart_seconds and not died_lately:
                raise NoWorker(model) if self._connected else BusUnavailable("not connected")
            if time.monotonic() > deadline:
                raise DeadlineExceeded
            await asyncio.sleep(_LOOK_SECONDS / 5)

    async def _send_for(self, call: _Call) -> None:
        """Send a call's message. One that cannot be sent, since the bus was lost just now, is sent when it is back."""
        expires_at = self._workers.clock.in_seconds(call.deadline - time.monotonic())
        request = call.request.model_copy(update={"expires_at": expires_at, "turn": call.turn})
        try:
            await self.send(request.task, request.queue, request.model_dump_json())
            call.unsent_since = None
        except BusUnavailable:
            now = time.monotonic()
            call.unsent_since = call.unsent_since or now
            if now - call.unsent_since > self.restart_seconds:
                raise
            call.generation = _NEVER_SENT

    def _must_send_again(self, call: _Call) -> bool:
        now, model = time.monotonic(), call.request.model
        if not self._connected:
            return False
        self._note_workers(call, now)
        if call.generation != self._generation:  # the bus restarted: message and reply may both be gone
            call.generation, call.sent_at, call.started_by = self._generation, now, None
            call.turn += 1
            return True
        died = call.started_by is not None and not self._workers.lives(call.started_by)
        untaken = call.started_by is None and now - call.sent_at > self.untaken_seconds and self.live_workers(model) > 0
        if died:
            call.deaths += 1
            call.turn += 1
        elif untaken and not call.repeated:
            call.repeated = True
        else:
            return False
        if call.deaths > 1:
            raise WorkerLost(model)
        call.sent_at, call.started_by = now, None
        return True

    def _note_workers(self, call: _Call, now: float) -> None:
        workers = self.announcements(call.request.model)
        if call.workers_seen_at is None or any(one.unsupported is None for one in workers):
            call.workers_seen_at = now
        takers = [call.request.is_for(one) for one in workers if one.ready]
        others_only = takers and not any(takers) and not self._workers.lives(call.started_by or "")
        settled = now - self._changed_at > self.restart_seconds
        if now - call.workers_seen_at > self.workerless_seconds or (others_only and settled):
            raise NoWorker(call.request.model)

    async def _listen(self) -> None:
        log = structlog.get_logger()
        while not self._stopped:  # a cancel can be lost inside redis-py's connect
            try:
                await self._deliver_replies()
            except (RedisError, OSError):
                pass  # `LiveWorkers` reports it
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
            refusal = Refusal.model_validate_json(text) if head.refusal is not None else None
        except ValueError:
            structlog.get_logger().warning("unreadable_reply")
            return
        call = self._calls.get(head.id)
        if call is None or (head.started_by is None and call.reply.done()):
            return
        if head.started_by is not None:
            call.started_by = head.started_by
        elif refusal is not None:
            call.reply.set_exception(Refused(refusal.refusal))
        else:
            call.reply.set_result(text)
