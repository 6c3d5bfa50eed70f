"""Many clients at once that are slow, idle or large: the gateway stays small, and others are served meanwhile."""

import asyncio
import resource
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import pytest
import redis

from app.config import Settings
from app.records.store import Records
from tests.app.gateway_process import gateway_process
from tests.submissions import submission

MEGABYTE = 1_000_000
MAX_RESIDENT_MEGABYTES = 400
BODY = b'{"context": "none", "inputs": [' + b",".join([b'"' + b"x" * 8_000 + b'"'] * 1_000) + b"]}"
POST = b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture(autouse=True)
def _descriptors() -> Iterator[None]:
    """As many sockets as the clients need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8_192), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def settings(store_url: str, bus_url: str, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, store_url=store_url, bus_url=bus_url)


def crowd(settings: Settings, scenario: Callable[[int, httpx.AsyncClient], Awaitable[None]]) -> None:
    """Run ``scenario`` against a gateway, which must have stayed small and serve as before at the end.

    It is given a client that had its connection before the others came.
    """

    async def whole(port: int) -> None:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            await served(http)
            await scenario(port, http)
        await asyncio.sleep(0.1)  # until what was aborted is closed

    with gateway_process(settings) as (process, port):
        asyncio.run(whole(port))
        assert resident_megabytes(process.pid) < MAX_RESIDENT_MEGABYTES
        assert httpx.get(f"http://127.0.0.1:{port}/contexts").status_code == 200


def resident_megabytes(pid: int) -> float:
    """The most memory that a process has had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / MEGABYTE
    raise AssertionError


async def first_line(port: int, content: bytes, trickle: bytes = b"") -> bytes:
    """The status line of the answer, or nothing if the connection is closed; ``trickle`` is sent once a second."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(content)
        read = asyncio.create_task(reader.readline())
        while trickle and not read.done():
            await asyncio.wait({read}, timeout=1)
            writer.write(trickle)
        return await read
    except OSError:
        return b""
    finally:
        writer.transport.abort()


async def served(http: httpx.AsyncClient) -> None:
    for _ in range(20):
        assert (await http.get("/contexts")).status_code == 200


def test_idle_and_slow_clients_are_closed_and_others_served(settings: Settings) -> None:
    async def scenario(port: int, http: httpx.AsyncClient) -> None:
        waiting = [
            *(first_line(port, b"") for _ in range(2_000)),
            *(first_line(port, b"GET /", b"a") for _ in range(200)),
            *(first_line(port, POST + b"Content-Length: 1000\r\n\r\n", b" ") for _ in range(200)),
        ]
        crowd = asyncio.gather(*waiting)
        await served(http)
        async with asyncio.timeout(90):
            answers = Counter(await crowd)
        assert set(answers) <= {b"", b"HTTP/1.1 408 Request Timeout\r\n"}

    crowd(settings, scenario)


def test_large_bodies_share_bounded_memory(settings: Settings) -> None:
    async def scenario(port: int, http: httpx.AsyncClient) -> None:
        def post(missing: int) -> Awaitable[bytes]:
            return first_line(port, POST + b"Content-Length: %d\r\n\r\n" % (len(BODY) + missing) + BODY)

        whole = asyncio.gather(*(post(0) for _ in range(50)))
        held = asyncio.gather(*(post(1) for _ in range(50)))
        await served(http)
        async with asyncio.timeout(200):
            assert {int(line.split()[1]) for line in await whole} <= {404, 429}
            assert {int(line.split()[1]) for line in await held if line} <= {408, 429}

    crowd(settings, scenario)


def test_two_thousand_wait_for_a_job(settings: Settings, records: Records) -> None:
    _, job = records.of("default").contexts.submit(submission())

    async def scenario(port: int, http: httpx.AsyncClient) -> None:
        get = f"GET /jobs/{job.id}?wait=60 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        waiting = asyncio.gather(*(first_line(port, get) for _ in range(2_000)))
        await asyncio.sleep(3)
        await served(http)
        assert not waiting.done()
        records.of("default").jobs.cancel(job.id)
        ended = time.monotonic()
        assert set(await waiting) == {b"HTTP/1.1 200 OK\r\n"}
        assert time.monotonic() - ended < 50  # not the end of their own time

    crowd(settings, scenario)


async def events_read(port: int, job_id: str, known: int) -> list[int]:
    """The numbers of the events of a job that a reader sees which knows those up to ``known``."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"GET /jobs/{job_id}/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
    writer.write(f"{head}Last-Event-ID: {known}\r\nConnection: close\r\n\r\n".encode())
    try:
        return [int(line[3:]) async for line in reader if line.startswith(b"id:")]
    finally:
        writer.transport.abort()


def test_readers_of_events_see_all_and_share_the_connections_to_the_store(
    settings: Settings, records: Records, client: redis.Redis
) -> None:
    tenant = records.of("default")
    jobs = [tenant.contexts.submit(submission())[1].id for _ in range(40)]

    async def scenario(port: int, http: httpx.AsyncClient) -> None:
        connections = [len(client.client_list())]
        readers = [asyncio.create_task(events_read(port, job, number % 2)) for number in range(10) for job in jobs]
        for _ in range(100):
            await asyncio.sleep(0.02)
            connections.append(len(client.client_list()))
        for job in jobs:
            await asyncio.to_thread(tenant.jobs.cancel, job)
        seen = await asyncio.gather(*readers)
        assert Counter(map(tuple, seen)) == {(1, 2): 200, (2,): 200}
        assert max(connections) - connections[0] < 5

    crowd(settings, scenario)
