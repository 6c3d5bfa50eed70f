"""Concurrent clients of the service, in a process of their own: run through `benchmarks.isolation`.

Each sends its next request when it has the answer to the last. They share the machine with the service, so they cost
as little as they can: a socket each, and no more of HTTP than they need.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from typing import Any
from urllib.parse import urlsplit

from benchmarks.isolation import answer


def load(url: str, context: str, texts: list[str], clients: int, inputs: int, seconds: float) -> dict[str, Any]:
    """Latencies of all requests (seconds) and inputs answered per second, to the last answer.

    Every client sends one request at least and starts none after `seconds`. Raises RuntimeError for any answer but a
    200.
    """
    return asyncio.run(_load(url, context, texts, clients, inputs, seconds))


async def _load(url: str, context: str, texts: list[str], clients: int, inputs: int, seconds: float) -> dict[str, Any]:
    supply = itertools.cycle(texts)
    latencies: list[float] = []
    address = urlsplit(url)
    connections = [await asyncio.open_connection(address.hostname, address.port) for _ in range(clients)]
    started = time.perf_counter()

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            body = {"context": context, "inputs": [next(supply) for _ in range(inputs)]}
            sent = time.perf_counter()
            writer.write(_request(address.netloc, json.dumps(body).encode()))
            await _read_ok(reader)
            latencies.append(time.perf_counter() - sent)
            if time.perf_counter() - started > seconds:
                writer.close()
                return

    await asyncio.gather(*(client(*connection) for connection in connections))
    elapsed = time.perf_counter() - started
    return {"latencies": latencies, "inputs_per_second": len(latencies) * inputs / elapsed}


def _request(host: str, body: bytes) -> bytes:
    head = f"POST /classify HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


async def _read_ok(reader: asyncio.StreamReader) -> bytes:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = next(int(line.split(":")[1]) for line in head.splitlines() if line.startswith("content-length:"))
    body = await reader.readexactly(length)
    if head.split()[1] != "200":
        raise RuntimeError(body.decode())
    return body


if __name__ == "__main__":
    answer(load)
