"""Plans: threads that answer requests from queues of their own, so that a plan or export never waits behind batches.

Owns the connection to the broker and its loss. Knows nothing of what a plan or an export is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from threading import Event, Thread
from typing import Any, Final

import kombu
import kombu.exceptions
import redis
import structlog

from app.contract.names import broker_url, plan_queue

#: Threads: a plan of thousands of examples takes seconds, in which another is answered.
_THREADS: Final = 2
_POLL_SECONDS: Final = 1.0


class PlanThreads:
    """Hand the payload of each request for ``models`` to what ``answers`` its task, until `stop`."""

    def __init__(self, bus_url: str, models: Sequence[str], answers: Mapping[str, Callable[[str], None]]) -> None:
        self._url = broker_url(bus_url)
        self._queues = [plan_queue(model) for model in models]
        self._answers = answers
        self._stopped = Event()
        names = [f"plans-{number}" for number in range(_THREADS)]
        self._threads = [Thread(target=self._answer_until_stopped, name=name, daemon=True) for name in names]

    def start(self) -> None:
        """Begin to answer."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, once what is being answered is answered."""
        self._stopped.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(5)

    @property
    def alive(self) -> bool:
        """Whether every thread runs."""
        return all(thread.is_alive() for thread in self._threads)

    def _answer_until_stopped(self) -> None:
        while not self._stopped.is_set():
            try:
                self._consume()
            except (kombu.exceptions.OperationalError, redis.RedisError, OSError) as error:
                structlog.get_logger().warning("plans_not_consumed", reason=str(error))
            except Exception as error:  # noqa: BLE001 - the thread must go on: else no plan would be made any more
                structlog.get_logger().error("consuming_failed", exc_info=error)
            self._stopped.wait(_POLL_SECONDS)

    def _consume(self) -> None:
        """Answer until the connection is lost. A message is gone once it is received: its gateway may ask again."""
        options = {"socket_connect_timeout": 2}
        with (
            kombu.Connection(self._url, transport_options=options) as connection,
            kombu.Consumer(
                connection,
                [kombu.Queue(name) for name in self._queues],
                callbacks=[self._receive],
                accept=["json"],
                no_ack=True,
                prefetch_count=1,
            ),
        ):
            while not self._stopped.is_set():
                with suppress(TimeoutError):
                    connection.drain_events(timeout=_POLL_SECONDS)

    def _receive(self, body: Any, message: Any) -> None:
        try:
            (payload,), _, _ = body
            self._answers[message.headers["task"]](payload)
        except Exception as error:  # noqa: BLE001 - one message must not keep the others from being answered
            structlog.get_logger().error("plan_request_dropped", reason=type(error).__name__)
