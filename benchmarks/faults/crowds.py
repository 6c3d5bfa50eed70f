"""Crowds of clients, in a process of their own: run through `benchmarks.isolation`.

Each keeps its connection for as long as the gateway lets it, and comes again a second after it was closed or answered.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import urlsplit

from benchmarks.isolation import answer

_PAUSE_SECONDS: Final = 1.0
_BODY_BYTES: Final = 8 * 1024 * 1024
_POST: Final = (
    "POST /classify HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n"
)
_GET: Final = "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def crowd(url: str, kind: str, clients: int, seconds: float, path: str = "") -> dict[str, int]:
    """How often each status was answered; ``closed`` where there was no answer, ``open`` where that was at the end.

    ``kind`` is ``polls`` (GET of ``path``), ``trickle`` (a body that comes byte by byte), or ``bodies`` (8 MiB but for
    the last byte).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2 * clients + 64)), hard))
    return asyncio.run(_crowd(url, _KINDS[kind], clients, seconds, path))


async def _crowd(url: str, ask: Callable[..., Awaitable[None]], clients: int, seconds: float, path: str) -> Any:
    address, until = urlsplit(url), time.monotonic() + seconds
    answers: Counter[str] = Counter()

    async def client() -> None:
        while time.monotonic() < until:
            answers[await _status(address.hostname or "", address.port or 0, ask, path, until)] += 1
            await asyncio.sleep(_PAUSE_SECONDS)

    await asyncio.gather(*(client() for _ in range(clients)))
    return answers


async def _status(host: str, port: int, ask: Callable[..., Awaitable[None]], path: str, until: float) -> str:
    try:
        streams = await asyncio.open_connection(host, port)
    except OSError:
        return "refused"
    sending = asyncio.ensure_future(ask(streams, f"{host}:{port}", path))
    try:
        async with asyncio.timeout(max(0.1, until - time.monotonic())):
            line = await streams[0].readline()
    except TimeoutError:
        return "open"
    except OSError:
        return "closed"
    else:
        return line.decode().split()[1] if line else "closed"
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        streams[1].transport.abort()


async def _poll(streams: _Streams, host: str, path: str) -> None:
    streams[1].write(_GET.format(host=host, path=path).encode())


async def _trickle(streams: _Streams, host: str, _path: str) -> None:
    streams[1].write(_POST.format(host=host, size=1_000).encode())
    while True:
        streams[1].write(b" ")
        await streams[1].drain()
        await asyncio.sleep(1)


async def _hold(streams: _Streams, host: str, _path: str) -> None:
    streams[1].write(_POST.format(host=host, size=_BODY_BYTES).encode())
    piece = b" " * (64 * 1024)
    for left in range(_BODY_BYTES - 1, 0, -len(piece)):
        streams[1].write(piece[:left])
        await streams[1].drain()


_KINDS: Final = {"polls": _poll, "trickle": _trickle, "bodies": _hold}

if __name__ == "__main__":
    answer(crowd)
