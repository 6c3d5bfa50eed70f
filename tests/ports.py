"""Ports for servers of the tests."""

import secrets
import socket
from contextlib import ExitStack, suppress

#: Below what systems give to connections: nothing else takes such a port before its server does.
_FIRST, _LAST = 20_000, 32_767


def free_port(and_higher_by: int = 0) -> int:
    """A port of the loopback address that nobody listens on; nor on the one that is so much higher."""
    while True:
        port = _FIRST + secrets.randbelow(_LAST + 1 - and_higher_by - _FIRST)
        with suppress(OSError), ExitStack() as listening:
            for one in {port, port + and_higher_by}:
                listening.enter_context(socket.create_server(("127.0.0.1", one)))
            return port
