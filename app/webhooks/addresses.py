"""Which addresses a webhook may reach. A name is resolved when the connection is made, and what it resolved to is used.

A check before the connection would not do: the name may resolve to another address by then.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Final

from httpcore2 import SOCKET_OPTION, AnyIOBackend, AsyncNetworkBackend, AsyncNetworkStream, ConnectError

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
#: Addresses that a translator turns into the IPv4 address in their last 32 bits (RFC 6052).
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
#: All of IPv6 that is handed out for the Internet (RFC 4291); what lies outside is local, or wraps IPv4 in ways of old.
_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
#: Not of the Internet either, whatever this version of Python knows: protocols' own, the relays of 6to4, documentation.
_RESERVED: Final = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "3fff::/20")))


def is_public(text: str) -> bool:
    """Whether an IP address is one of the public Internet, also where IPv6 wraps an IPv4 address."""
    address: _Address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        wrapped = address.ipv4_mapped or address.sixtofour
        if wrapped is None and address in _NAT64:
            wrapped = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if wrapped is None and address not in _UNICAST:
            return False
        address = wrapped or address
    return address.is_global and not address.is_multicast and not any(address in network for network in _RESERVED)


def is_private_host(host: str) -> bool:
    """Whether the host of a URL is in itself an address that is not public; other names are looked up when sent to."""
    name = host.strip("[]").rstrip(".").lower()
    with suppress(ValueError):
        return not is_public(name)
    return name == "localhost" or name.endswith(".localhost")


#: Names that are looked up at once: more than one tenant may have.
_LOOKUPS: Final = 128


class NotPublic(ConnectError):
    """An address that is not of the public Internet."""


class Backend(AsyncNetworkBackend):
    """Connects to public addresses, to others only if ``any_address`` is set.

    Names are looked up by threads of its own, each name by one at a time: names whose servers do not answer take
    nobody else's.
    """

    def __init__(self, *, any_address: bool) -> None:
        self._any_address = any_address
        self._backend = AnyIOBackend()
        self._threads = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="names")
        self._lookups: dict[tuple[str, int], asyncio.Future[list[str]]] = {}

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface's own parameter
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> AsyncNetworkStream:
        """Connect to the first address of ``host`` that answers.

        Raises `NotPublic` unless all its addresses may be reached, ConnectError where none answers.
        """
        addresses = await self._look_up(host, port)
        if not self._any_address and not all(map(is_public, addresses)):
            raise NotPublic("the address of the webhook is not public")
        fault = ConnectError("the name of the webhook has no address")
        for address in addresses:
            try:
                return await self._backend.connect_tcp(address, port, timeout, local_address, socket_options)
            except ConnectError as error:
                fault = error
        raise fault

    async def _look_up(self, host: str, port: int) -> list[str]:
        """The addresses of a name, shared by all that ask meanwhile; the thread goes on when those give up."""
        name = host, port
        if name not in self._lookups:
            looking = asyncio.get_running_loop().run_in_executor(self._threads, _addresses, host, port)
            looking.add_done_callback(partial(self._looked_up, name))
            self._lookups[name] = looking
        return await asyncio.shield(self._lookups[name])

    def _looked_up(self, name: tuple[str, int], looking: asyncio.Future[list[str]]) -> None:
        del self._lookups[name]
        if not looking.cancelled():
            looking.exception()  # nobody may be left to be told

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        await self._backend.sleep(seconds)

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _addresses(host: str, port: int) -> list[str]:
    """The addresses of a name. Raises `ConnectError`."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ConnectError("the name of the webhook does not resolve") from error
    return [str(entry[4][0]) for entry in found]
