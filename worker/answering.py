"""Answering: from the payload of a request to the reply that is published.

Owns what happens around the computing: requests that cannot be read, that nobody waits for any more, and copies of one
that was begun already. Knows neither what is computed nor how a payload came here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import Final, TypeVar

import structlog
from pydantic import ValidationError

from app.contract.messages import Envelope, Failure, Message, Refusal, Request, Started
from app.contract.names import ErrorCode
from worker.bus import WorkerBus

R = TypeVar("R", bound=Request)

#: Replies that are kept: a few times what gateways have under way with one worker.
_KEPT_REPLIES: Final = 64


class Answering:
    """Answers requests over ``bus`` in the name of a worker. Safe to use from any thread."""

    def __init__(self, bus: WorkerBus, worker_id: str) -> None:
        self._bus = bus
        self._worker_id = worker_id
        self._lock = Lock()
        self._computing: set[str] = set()
        self._replies: OrderedDict[str, Message] = OrderedDict()

    def answer(self, kind: type[R], payload: str, compute: Callable[[R], Message | None]) -> None:
        """Publish what ``compute`` makes of a request; None where nobody waits for it any more.

        A copy of a request that is being computed is dropped; to one that was computed lately the same is replied.
        """
        request = self._read(kind, payload)
        if request is None or self._bus.clock.seconds_until(request.expires_at) < 0 or not self._begin(request):
            return
        reply: Message | None = None
        try:
            reply = compute(request)
        finally:
            self._end(request.id, reply)
        if reply is not None:
            self._bus.reply(request.reply_to, reply)

    def _read(self, kind: type[R], payload: str) -> R | None:
        try:
            return kind.model_validate_json(payload)
        except ValidationError as error:
            reason = "; ".join(one["msg"] for one in error.errors(include_input=False)[:3])
        structlog.get_logger().error("unreadable_request", kind=kind.__name__, reason=reason)
        with suppress(ValidationError):
            envelope = Envelope.model_validate_json(payload)
            failure = Failure(code=ErrorCode.NO_WORKER, message=f"the worker cannot read the request: {reason}")
            self._bus.reply(envelope.reply_to, Refusal(id=envelope.id, refusal=failure))
        return None

    def _begin(self, request: Request) -> bool:
        """Whether to compute a request; says so to its gateway."""
        with self._lock:
            replied, computing = self._replies.get(request.id), request.id in self._computing
            if replied is None:
                self._computing.add(request.id)
        if replied is not None:
            self._bus.reply(request.reply_to, replied)
            return False
        if computing:
            self._bus.reply(request.reply_to, Started(id=request.id, started_by=self._worker_id))
            return False
        if self._bus.start(request, self._worker_id):
            return True
        self._end(request.id, None)
        return False

    def _end(self, request_id: str, reply: Message | None) -> None:
        with self._lock:
            self._computing.discard(request_id)
            if reply is not None:
                self._replies[request_id] = reply
                if len(self._replies) > _KEPT_REPLIES:
                    self._replies.popitem(last=False)
