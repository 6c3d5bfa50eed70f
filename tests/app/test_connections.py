"""Connections on real sockets, to an application that answers with the length of the body."""

import asyncio
import json
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from app.connections import BoundedProtocol, Connections
from app.server import Server
from tests.waiting import eventually

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
HURRIED = {"header_seconds": 0.1, "drain_seconds": 0.1, "write_seconds": 0.1}


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    if scope["path"] == "/ignore":
        await Response("ignored")(scope, receive, send)
    elif scope["path"] == "/endless":

        async def lines() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 65_536
                await asyncio.sleep(0)

        await StreamingResponse(lines())(scope, receive, send)
    else:
        body = await Request(scope, receive).body()
        await Response(str(len(body)))(scope, receive, send)


@asynccontextmanager
async def serving(
    limit: int = 100, waits: Mapping[str, Any] = MappingProxyType({}), **tls: Any
) -> AsyncIterator[tuple[int, Connections]]:
    """The port of a server, and its connections, which it ``waits`` for as long as that says."""
    every = Connections(limit, **waits)
    protocol: Any = partial(BoundedProtocol, connections=every)
    config = uvicorn.Config(
        application, http=protocol, ws="none", lifespan="off", log_config=None, timeout_graceful_shutdown=1, **tls
    )
    server = Server(config, asyncio.Event(), every)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        running = asyncio.create_task(server.serve([listening]))
        try:
            async with asyncio.timeout(60):
                await happens(lambda: server.started)
                yield listening.getsockname()[1], every
        finally:
            server.should_exit = True
            await running


async def happens(look: Callable[[], object]) -> None:
    await asyncio.to_thread(eventually, look)


def scenario(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A certificate for localhost and its key."""
    folder = tmp_path_factory.mktemp("tls")
    files = {"ssl_certfile": folder / "cert.pem", "ssl_keyfile": folder / "key.pem"}
    subprocess.run(
        [
            *("/usr/bin/openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", files["ssl_keyfile"], "-out", files["ssl_certfile"]),
        ],
        check=True,
        capture_output=True,
    )
    return files


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body of one answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
    return int(head.split()[1]), await reader.readexactly(length)


async def ends(reader: asyncio.StreamReader) -> None:
    """Nothing comes any more; what was still sent to a closed connection resets it."""
    with suppress(ConnectionResetError):
        assert await reader.read() == b""


@pytest.mark.parametrize("sent", [b"", b"G", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "])
def test_connection_without_a_whole_header_is_closed(sent: bytes) -> None:
    async def test() -> None:
        async with serving(waits=HURRIED) as (port, every):
            reader, writer = await connect(port)
            writer.write(sent)
            assert await reader.read() == b""
            writer.close()
            assert not every.idle

    scenario(test)


def test_header_that_comes_a_byte_at_a_time_is_not_waited_for() -> None:
    async def test() -> None:
        async with serving(waits=HURRIED) as (port, _):
            reader, writer = await connect(port)
            for byte in GET:
                if reader.at_eof() or writer.is_closing():
                    break
                writer.write(bytes([byte]))
                await asyncio.sleep(0.02)
            await ends(reader)
            writer.close()

    scenario(test)


def test_connection_that_had_a_request_stays_open_between_requests() -> None:
    async def test() -> None:
        async with serving(waits=HURRIED) as (port, _):
            reader, writer = await connect(port)
            for _ in range(2):
                writer.write(GET)
                assert await answer(reader) == (200, b"0")
                await asyncio.sleep(0.3)
            writer.write(GET[:10])
            assert await reader.read() == b""
            writer.close()

    scenario(test)


def test_body_that_nobody_reads_is_not_received_for_ever() -> None:
    async def test() -> None:
        async with serving(waits=HURRIED) as (port, _):
            reader, writer = await connect(port)
            writer.write(b"POST /ignore HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
            assert await answer(reader) == (200, b"ignored")
            writer.write(b"x")
            await ends(reader)
            writer.close()

    scenario(test)


def test_rest_of_a_body_may_follow_the_answer() -> None:
    async def test() -> None:
        async with serving() as (port, _):
            reader, writer = await connect(port)
            writer.write(b"POST /ignore HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n")
            assert await answer(reader) == (200, b"ignored")
            writer.write(b"abc" + GET)
            assert await answer(reader) == (200, b"0")
            writer.close()

    scenario(test)


def test_client_that_does_not_read_is_dropped() -> None:
    async def test() -> None:
        async with serving(waits=HURRIED) as (port, every):
            _, writer = await connect(port)
            writer.write(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await happens(lambda: every.open)
            await happens(lambda: not every.open)
            writer.transport.abort()

    scenario(test)


def test_new_connection_takes_the_place_of_the_one_that_is_idle_for_longest() -> None:
    async def test() -> None:
        async with serving(limit=3) as (port, every):
            idle = [await connect(port) for _ in range(3)]
            await happens(lambda: every.open == 3)
            idle[0][1].write(GET)  # has been idle for less than the second now
            assert await answer(idle[0][0]) == (200, b"0")
            reader, writer = await connect(port)
            writer.write(GET)
            assert await answer(reader) == (200, b"0")
            assert await idle[1][0].read() == b""
            idle[0][1].write(GET)
            assert await answer(idle[0][0]) == (200, b"0")
            for _, other in [*idle, (reader, writer)]:
                other.close()

    scenario(test)


def test_new_connection_is_refused_where_all_are_in_use() -> None:
    async def test() -> None:
        async with serving(limit=2) as (port, every):
            busy = [await connect(port) for _ in range(2)]
            for _, writer in busy:
                writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n")
            await happens(lambda: every.open == 2 and not every.idle)
            reader, refused = await connect(port)
            status, body = await answer(reader)
            assert (status, json.loads(body)["code"]) == (503, "overloaded")
            assert await reader.read() == b""
            refused.close()
            for before, writer in busy:
                writer.write(b"abc")
                assert await answer(before) == (200, b"3")
                writer.close()

    scenario(test)


@pytest.mark.parametrize(
    "sent", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"]
)
def test_what_is_not_http_is_a_problem_too(sent: bytes) -> None:
    async def test() -> None:
        async with serving() as (port, _):
            reader, writer = await connect(port)
            writer.write(sent)
            status, body = await answer(reader)
            assert (status, json.loads(body)["code"]) == (400, "malformed_request")
            assert await reader.read() == b""
            writer.close()

    scenario(test)


async def answered_by_https(port: int, certificate: Path) -> tuple[int, bytes]:
    trusted = ssl.create_default_context(cafile=certificate)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusted, server_hostname="localhost")
    writer.write(GET)
    try:
        return await answer(reader)
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00", GET])
def test_handshake_that_does_not_end_is_given_up(tls: dict[str, Any], sent: bytes) -> None:
    async def test() -> None:
        async with serving(waits={"handshake_seconds": 0.5}, **tls) as (port, every):
            reader, writer = await connect(port)
            writer.write(sent)
            await reader.read()
            await happens(lambda: every.open == 0)
            writer.close()

    scenario(test)


def test_handshakes_count_as_connections(tls: dict[str, Any]) -> None:
    async def test() -> None:
        async with serving(3, **tls) as (port, every):
            silent = [await connect(port) for _ in range(5)]
            await happens(lambda: every.open == 3)
            assert await answered_by_https(port, tls["ssl_certfile"]) == (200, b"0")
            for reader, _ in silent[:3]:
                await reader.read()
            for _, writer in silent:
                writer.transport.abort()
            await happens(lambda: every.open == 0)

    scenario(test)


def test_request_may_come_with_the_end_of_the_handshake(tls: dict[str, Any]) -> None:
    async def test() -> None:
        async with serving(**tls) as (port, _):
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = ssl.create_default_context(cafile=tls["ssl_certfile"]).wrap_bio(
                incoming, outgoing, server_hostname="localhost"
            )
            reader, writer = await connect(port)
            while True:
                try:
                    client.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    writer.write(outgoing.read())
                    incoming.write(await reader.read(65_536))
            client.write(GET)
            writer.write(outgoing.read())  # the end of the handshake and the request
            received = b""
            while not received.endswith(b"0"):
                incoming.write(await reader.read(65_536))
                with suppress(ssl.SSLWantReadError):
                    received += client.read()
            assert received.startswith(b"HTTP/1.1 200")
            writer.transport.abort()

    scenario(test)
