"""Which addresses a webhook reaches."""

import asyncio
import socket
import threading
from typing import Any

import pytest
from httpcore2 import AnyIOBackend, ConnectError

from app.webhooks.addresses import Backend, is_private_host, is_public


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34", "64:ff9b::8.8.8.8"])
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
        ),
        *("224.0.0.1", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe"),
        *("64:ff9b:1::7f00:1", "64:ff9b:1:7f00:0:100::", "::127.0.0.1", "::ffff:0:127.0.0.1", "2001:0:7f00:1::"),
        *("fec0::1", "100::1", "2001:db8::1", "3fff::1", "5f00::1", "192.0.0.8", "192.88.99.1", "255.255.255.255"),
    ],
)
def test_addresses_of_this_network_are_not_public_in_any_form(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    ("host", "private"),
    [
        *(
            (host, True)
            for host in ("localhost", "LOCALHOST.", "a.localhost", "10.0.0.1", "[::1]", "[::ffff:10.0.0.1]")
        ),
        *((host, False) for host in ("example.org", "8.8.8.8", "[2606:2800:220:1::1]", "localhost.example.org", "")),
    ],
)
def test_host_that_is_a_private_address_is_known_without_a_look_up(host: str, private: bool) -> None:
    assert is_private_host(host) is private


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "2130706433", "0x7f.1", "127.1"])
def test_private_address_is_not_connected_to_however_it_is_written(host: str) -> None:
    with pytest.raises(ConnectError):
        asyncio.run(Backend(any_address=False).connect_tcp(host, 80, timeout=5))


def test_name_that_resolves_otherwise_each_time_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found public is connected to, not what the name stands for a moment later."""
    asked: list[str] = []

    def resolve(host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
        asked.append(host)
        address = "192.0.2.1" if len(asked) > 1 else "93.184.216.34"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    connected: list[str] = []

    async def connect(self: AnyIOBackend, host: str, *_: object, **__: object) -> None:
        connected.append(host)
        raise ConnectError("there is no network here")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(AnyIOBackend, "connect_tcp", connect)
    with pytest.raises(ConnectError, match="no network"):
        asyncio.run(Backend(any_address=False).connect_tcp("turns.example", 80, timeout=5))
    assert (asked, connected) == (["turns.example"], ["93.184.216.34"])


def test_name_with_one_private_address_among_public_ones_is_not_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    both = ("93.184.216.34", "10.0.0.1")
    answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in both]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    with pytest.raises(ConnectError, match="not public"):
        asyncio.run(Backend(any_address=False).connect_tcp("both.example", 80, timeout=5))


def test_address_that_does_not_answer_leaves_the_next_to_be_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect(port: int) -> None:
        stream = await Backend(any_address=True).connect_tcp("both.example", port, timeout=5)
        await stream.aclose()

    with socket.create_server(("127.0.0.1", 0)) as server:
        answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in ("127.0.0.2", "127.0.0.1")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
        asyncio.run(connect(server.getsockname()[1]))


def test_names_whose_servers_are_silent_hold_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four deliveries to each of the sixteen webhooks of a tenant wait; that to another's webhook does not."""
    released = threading.Event()
    found = socket.getaddrinfo

    def resolve(host: str, *given: Any, **named: Any) -> Any:
        if host.endswith(".silent.example"):
            released.wait(60)
            raise OSError("timed out")
        return found(host, *given, **named)

    async def connect(port: int) -> None:
        backend = Backend(any_address=True)
        names = [f"{number}.silent.example" for number in range(16) for _ in range(4)]
        waiting = [asyncio.create_task(backend.connect_tcp(name, 80)) for name in names]
        await asyncio.sleep(0)
        stream = await asyncio.wait_for(backend.connect_tcp("localhost", port, timeout=5), 20)
        await stream.aclose()
        released.set()
        faults = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(fault) for fault in faults} == {ConnectError}
        backend.close()

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with socket.create_server(("127.0.0.1", 0)) as server:
        asyncio.run(connect(server.getsockname()[1]))
