"""Connections of clients: how long each may keep the server waiting, and how many there are at once.

A protocol of uvicorn with what uvicorn lacks. It knows nothing of what is asked over a connection.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from app.contract.names import ErrorCode
from app.errors import DomainError
from app.problems import problem_document
from app.records.connection import new_id

_Waiting = Literal["nothing", "headers", "rest of body"]


class Bounded(Protocol):
    """A connection that counts."""

    def refuse(self) -> None:
        """Close at once, since there are too many."""

    def close(self) -> None:
        """Close, since it is idle and another needs the room."""


@dataclass
class Connections:
    """The open connections of a server, ``limit`` at most.

    One more closes the connection that has been idle for longest; where none is idle, the new one is refused.
    """

    limit: int
    #: How long a TLS handshake may take.
    handshake_seconds: float = 10.0
    #: How long a connection may take to send the header of a request, counted from its first byte; one that is new,
    #: from when it was made.
    header_seconds: float = 10.0
    #: How long what is left of a body is read after the answer, so that the client sees the answer.
    drain_seconds: float = 10.0
    #: How long a client may read nothing of its answer.
    write_seconds: float = 30.0
    #: Connections without a request, the one that has been idle for longest first.
    idle: dict[Bounded, None] = field(default_factory=dict)
    _open: set[Bounded] = field(init=False, default_factory=set)

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._open)

    def admit(self, connection: Bounded) -> None:
        """Make room for a new connection, or refuse it."""
        self._open.add(connection)
        if len(self._open) > self.limit:
            longest = next(iter(self.idle), None)
            if longest is None:
                connection.refuse()
            else:
                self.forget(longest)
                longest.close()
        if connection in self._open:
            self.idle[connection] = None

    def forget(self, connection: Bounded) -> None:
        """Drop a connection that is closed."""
        self._open.discard(connection)
        self.idle.pop(connection, None)


class BoundedProtocol(H11Protocol):
    """An HTTP/1.1 connection that is closed when its client keeps it waiting for too long."""

    def __init__(self, *args: Any, connections: Connections, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._all = connections
        #: What counted for this connection before it was made, such as its handshake.
        self.before: Bounded | None = None
        self._waiting: _Waiting = "nothing"
        self._deadline: asyncio.TimerHandle | None = None
        self._write_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        if self.before is not None:
            self._all.forget(self.before)
        self._all.admit(self)
        self._wait_for("headers")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._all.forget(self)
        self._wait_for("nothing")
        self._cancel_write_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """Wait for the next request, or for what is left of this one."""
        super().on_response_complete()
        self._look()

    def pause_writing(self) -> None:
        """Give the client some time to read."""
        super().pause_writing()
        self._cancel_write_deadline()
        self._write_deadline = self.loop.call_later(self._all.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on, as the client has read."""
        super().resume_writing()
        self._cancel_write_deadline()

    def refuse(self) -> None:
        """Answer that there are too many connections, and close."""
        self._all.forget(self)
        error = DomainError(ErrorCode.OVERLOADED, "too many connections are open")
        # The server has no room, whoever asks: 503, not the 429 of a client that asks too much.
        self._send_problem(error, [("Retry-After", "5"), ("retry-after-ms", "5000")], status=503)

    def close(self) -> None:
        """Close a connection that is idle."""
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, and close."""
        self._send_problem(DomainError(ErrorCode.MALFORMED_REQUEST, msg), [])

    def _send_problem(self, error: DomainError, headers: list[tuple[str, str]], status: int | None = None) -> None:
        document = problem_document(error, "", new_id("req"), status)
        content = document.model_dump_json().encode()
        headers = [
            *headers,
            ("Content-Type", "application/problem+json"),
            ("Content-Length", str(len(content))),
            ("X-Request-Id", document.request_id),
            ("Connection", "close"),
        ]
        for event in (
            h11.Response(status_code=document.status, headers=headers),
            h11.Data(data=content),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _look(self) -> None:
        """Note what the connection waits for now."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._all.idle.pop(self, None)
            self._wait_for("nothing")  # the body has a deadline of its own, the answer too
        elif self.conn.their_state is h11.SEND_BODY:
            self._wait_for("rest of body")
        else:
            self._all.idle.setdefault(self, None)
            # Between requests nothing is due: uvicorn closes the connection in the end.
            self._wait_for("headers" if self.cycle is None or self.conn.trailing_data[0] else "nothing")

    def _wait_for(self, waiting: _Waiting) -> None:
        if waiting == self._waiting:
            return
        self._waiting = waiting
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if waiting != "nothing":
            seconds = self._all.header_seconds if waiting == "headers" else self._all.drain_seconds
            self._deadline = self.loop.call_later(seconds, self.transport.close)

    def _cancel_write_deadline(self) -> None:
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None
