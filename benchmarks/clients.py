"""Concurrent clients of the service, in a process of their own: run through `benchmarks.isolation`.

Each sends its next request when it has the answer to the last. Knows HTTP only.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

import httpx

from benchmarks.isolation import answer


def load(url: str, context: str, texts: list[str], clients: int, inputs: int, seconds: float) -> dict[str, Any]:
    """Latencies of all requests (seconds) and inputs answered per second, to the last answer.

    Every client sends one request at least and starts none after `seconds`. Raises httpx.HTTPStatusError for any answer
    but a 200.
    """
    return asyncio.run(_load(url, context, texts, clients, inputs, seconds))


async def _load(url: str, context: str, texts: list[str], clients: int, inputs: int, seconds: float) -> dict[str, Any]:
    supply = itertools.cycle(texts)
    latencies: list[float] = []
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)

    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=None, trust_env=False) as http:
        await asyncio.gather(*(http.get("/health/live") for _ in range(clients)))  # connections are made before
        started = time.perf_counter()

        async def client() -> None:
            while True:
                body = {"context": context, "inputs": [next(supply) for _ in range(inputs)]}
                sent = time.perf_counter()
                (await http.post("/classify", json=body)).raise_for_status()
                latencies.append(time.perf_counter() - sent)
                if time.perf_counter() - started > seconds:
                    return

        await asyncio.gather(*(client() for _ in range(clients)))
        elapsed = time.perf_counter() - started
    return {"latencies": latencies, "inputs_per_second": len(latencies) * inputs / elapsed}


if __name__ == "__main__":
    answer(load)
