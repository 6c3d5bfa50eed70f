"""Residency: hears which contexts are about to be asked for, and makes them ready to answer."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Event, Thread
from typing import Final, cast

import redis
import structlog
from pydantic import ValidationError

from app.contract.messages import ResidencyReply, ResidencyRequest
from app.contract.names import RESIDENCY_CHANNEL
from worker.classification.resident import ResidentContexts
from worker.classification.together import failure_of

_POLL_SECONDS: Final = 0.5
#: How long after a failure the bus is tried again.
_AGAIN_SECONDS: Final = 1.0
#: How long `start` waits for the bus.
_SUBSCRIBED_SECONDS: Final = 5.0


class ResidencyThread:
    """Answers every `ResidencyRequest` on the bus at ``url`` in the name of a worker, until `stop`."""

    def __init__(self, url: str, worker_id: str, residents: Mapping[str, ResidentContexts]) -> None:
        self._client = redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=2)
        self._worker_id = worker_id
        self._residents = residents
        self._subscribed = Event()
        self._stopped = Event()
        self._thread = Thread(target=self._listen_until_stopped, name="residency", daemon=True)

    def start(self) -> None:
        """Begin to listen. Returns once that is so, or the bus does not answer."""
        self._thread.start()
        self._subscribed.wait(_SUBSCRIBED_SECONDS)

    def stop(self) -> None:
        """End."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join(5)
        self._client.close()

    def _listen_until_stopped(self) -> None:
        while not self._stopped.is_set():
            try:
                self._listen()
            except (redis.RedisError, OSError) as error:
                structlog.get_logger().warning("residency_not_heard", reason=str(error))
            except Exception as error:  # noqa: BLE001 - the thread must go on: aliases would move to what is not ready
                structlog.get_logger().error("residency_failed", exc_info=error)
            self._stopped.wait(_AGAIN_SECONDS)

    def _listen(self) -> None:
        with self._client.pubsub() as channel:
            channel.subscribe(RESIDENCY_CHANNEL)
            while not self._stopped.is_set():
                message = channel.get_message(timeout=_POLL_SECONDS)
                if message is not None and message["type"] == "subscribe":
                    self._subscribed.set()
                elif message is not None:
                    self._answer(cast("bytes", message["data"]))

    def _answer(self, payload: bytes) -> None:
        try:
            request = ResidencyRequest.model_validate_json(payload)
        except ValidationError:
            structlog.get_logger().error("unreadable_request", kind="ResidencyRequest")
            return
        residents = self._residents.get(request.model)
        if residents is not None:
            reply = ResidencyReply(worker=self._worker_id, resident=_load(residents, request.artifact))
            self._client.publish(request.reply_to, reply.model_dump_json())


def _load(residents: ResidentContexts, artifact: str) -> bool:
    """Whether the context is ready to answer now."""
    try:
        residents.get(artifact)
    except Exception as error:  # noqa: BLE001 - whatever it is, the gateway must learn that it cannot answer
        structlog.get_logger().warning("not_resident", artifact=artifact, reason=failure_of(error, ()).message)
        return False
    return True
