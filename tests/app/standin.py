"""A worker's place on a real bus, taken by the test: it consumes the real queue and answers when told to."""

import json
from collections.abc import Callable
from types import TracebackType
from typing import Any

import kombu

from app.contract.messages import Announcement, DeviceState, Message, Started
from app.contract.names import broker_url, classify_queue
from worker.bus import WorkerBus

MODEL = "tiny"


class StandIn:
    """A worker of `MODEL` that does nothing by itself."""

    def __init__(self, url: str, worker_id: str = "worker-1") -> None:
        self.id = worker_id
        self._bus = WorkerBus(url, worker_id)
        self._connection = kombu.Connection(broker_url(url))

    def __enter__(self) -> "StandIn":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.release()
        self._bus.close()

    def announce(
        self, ready: bool = True, model: str = MODEL, device: DeviceState | None = None, files: str | None = None
    ) -> None:
        self._bus.announce([Announcement(worker_id=self.id, model=model, ready=ready, device=device, files=files)])

    def refuse(self, reason: str, model: str = MODEL) -> None:
        self._bus.announce([Announcement(worker_id=self.id, model=model, ready=False, unsupported=reason)])

    def die(self) -> None:
        """What the bus shows once a dead worker's announcement has expired."""
        self._bus.withdraw()

    def take(self, seconds: float = 20, of: Callable[[str], str] = classify_queue) -> dict[str, Any]:
        """The next message of the model's queue ``of`` batches or plans, removed from it."""
        queue = self._connection.SimpleQueue(of(MODEL), no_ack=True)
        try:
            (payload,), _, _ = queue.get(timeout=seconds).payload
        finally:
            queue.close()
        request: dict[str, Any] = json.loads(payload)
        return request

    def begin(self, request: dict[str, Any]) -> None:
        """Say that this worker has the request."""
        self.say(request, Started(id=request["id"], started_by=self.id))

    def say(self, request: dict[str, Any], message: Message) -> None:
        self._bus.reply(request["reply_to"], message)
