"""Ports for servers of the tests."""

import secrets
import socket
from contextlib import suppress

#: Below what systems give to connections: nothing else takes such a port before its server does.
_FIRST, _LAST = 20_000, 32_767


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    while True:
        port = _FIRST + secrets.randbelow(_LAST + 1 - _FIRST)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
