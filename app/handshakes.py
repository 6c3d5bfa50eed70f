"""TLS: connections whose handshake is under way, counted with the others and bounded in time.

The handshakes of asyncio's own servers may take a minute each, and nobody knows how many there are.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from app.connections import BoundedProtocol, Connections

#: How long nothing is accepted after it could not be, as without file descriptors.
_PAUSE_SECONDS: Final = 1.0


class Handshake:
    """A connection whose handshake is under way."""

    def __init__(self, connections: Connections, client: socket.socket) -> None:
        self._all = connections
        self._client = client
        self._task: asyncio.Task[None] | None = None
        self._refused = False

    def start(self, context: ssl.SSLContext, create: Callable[[], BoundedProtocol]) -> None:
        """Begin, where there is room for one more connection; ``create`` makes the protocol that goes on with it."""
        self._all.admit(self)
        if self._refused:
            self._client.close()
        else:
            self._task = asyncio.get_running_loop().create_task(self._shake_hands(context, create))

    def refuse(self) -> None:
        """Close: no answer can be read before the handshake."""
        self._all.forget(self)
        self._refused = True

    def close(self) -> None:
        """End, as another connection takes the room."""
        if self._task is not None:
            self._task.cancel()

    async def _shake_hands(self, context: ssl.SSLContext, create: Callable[[], BoundedProtocol]) -> None:
        def begin() -> BoundedProtocol:
            protocol = create()
            protocol.before = self
            return protocol

        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                begin, self._client, ssl=context, ssl_handshake_timeout=self._all.handshake_seconds
            )
        except OSError:
            pass  # closed, too slow, or no TLS
        finally:
            self._all.forget(self)


class TLSListener:
    """Accepts connections on ``sockets``, and hands on those whose handshake succeeds; closed as a server is."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        context: ssl.SSLContext,
        connections: Connections,
        create: Callable[[], BoundedProtocol],
    ) -> None:
        self._sockets = sockets
        self._context = context
        self._connections = connections
        self._create = create
        self._tasks = [asyncio.get_running_loop().create_task(self._accept(one)) for one in sockets]

    def close(self) -> None:
        """Accept no more."""
        for task in self._tasks:
            task.cancel()

    async def wait_closed(self) -> None:
        """Return once nothing is accepted."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for one in self._sockets:
            one.close()

    async def _accept(self, listening: socket.socket) -> None:
        listening.setblocking(False)
        while True:
            try:
                client, _ = await asyncio.get_running_loop().sock_accept(listening)
            except OSError as error:
                structlog.get_logger().warning("not_accepted", reason=str(error))
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            client.setblocking(False)
            Handshake(self._connections, client).start(self._context, self._create)
            await asyncio.sleep(0)  # let it begin
