"""The HTTP server of a gateway process: its address, TLS, file descriptors, connections, and how it stops."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import resource
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any, Final

import structlog
import uvicorn
from fastapi import FastAPI

from app.config import Settings
from app.connections import BoundedProtocol, Connections
from app.handshakes import TLSListener

#: Exit status of a server that could not start, such as on a port in use; uvicorn's own.
_STARTUP_FAILURE: Final = 3

#: How long an idle connection stays open: longer than clients and proxies keep theirs, or one would send a request just
#: as the server closes.
_KEEP_ALIVE_SECONDS: Final = 120

#: How long requests that were accepted are worked on after the first signal.
SHUTDOWN_SECONDS: Final = 8

_MAX_CONNECTIONS: Final = 4096
#: File descriptors that are not for clients: connections to store and bus, files, pipes.
_OTHER_DESCRIPTORS: Final = 256
_ENOUGH_DESCRIPTORS: Final = 65_536

#: What uvicorn warns of at each offer of another protocol; that it is passed over needs nobody's attention.
_UPGRADE_WARNINGS: Final = ("Unsupported upgrade request", "No supported WebSocket library")


class Server(uvicorn.Server):
    """Sets ``stopping`` at the first signal: a request that waits would otherwise be cut off when the grace ends.

    With TLS, handshakes are ``connections`` too.
    """

    def __init__(self, config: uvicorn.Config, stopping: asyncio.Event, connections: Connections) -> None:
        super().__init__(config)
        self._stopping = stopping
        self._connections = connections

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        if self.config.ssl is None:
            await super().startup(sockets)
            return
        await super().startup([])  # all but to listen
        http: Any = self.config.http_protocol_class
        create = partial(
            http,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        try:
            listening = sockets or [_listening(self.config.host, self.config.port, self.config.backlog)]
        except OSError as error:
            structlog.get_logger().error("cannot_listen", reason=str(error))
            self.started, self.should_exit = False, True
            await self.lifespan.shutdown()
            return
        servers: list[Any] = self.servers
        servers.append(TLSListener(listening, self.config.ssl, self._connections, create))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop."""
        self._stopping.set()
        super().handle_exit(sig, frame)


def serve(settings: Settings, create_app: Callable[[Settings, asyncio.Event], FastAPI]) -> None:
    """Serve until SIGTERM or SIGINT. Ends the process when it cannot listen."""
    logging.getLogger("uvicorn.error").addFilter(lambda record: not record.getMessage().startswith(_UPGRADE_WARNINGS))
    if settings.tls_cert is None and not _loopback(settings.host):
        structlog.get_logger().warning(
            "plain_http",
            host=settings.host,
            reason="anyone on the network path can read texts and keys: "
            "set CONTEXTUNE_TLS_CERT and CONTEXTUNE_TLS_KEY, or listen on a loopback address behind a proxy with TLS",
        )
    stopping = asyncio.Event()
    connections = Connections(_connection_limit())
    protocol: Any = partial(BoundedProtocol, connections=connections)
    config = uvicorn.Config(
        create_app(settings, stopping),
        host=settings.host,
        port=settings.port,
        root_path=settings.root_path,
        http=protocol,  # on h11: httptools loses the body of a request that offers another protocol
        ws="none",
        access_log=False,
        log_config=None,
        proxy_headers=False,  # `ProxyMiddleware` reads them
        server_header=False,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
    )
    server = Server(config, stopping, connections)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):  # uvicorn raises a signal again once it has stopped: exit with 0 all the same
        server.run()
    if not server.started:
        sys.exit(_STARTUP_FAILURE)


def _listening(host: str, port: int, backlog: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=backlog)


def _loopback(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _connection_limit() -> int:
    """How many connections the process has file descriptors for, after it has raised its limit of them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return (
        _MAX_CONNECTIONS
        if soft == resource.RLIM_INFINITY
        else min(_MAX_CONNECTIONS, max(16, soft - _OTHER_DESCRIPTORS))
    )
