"""Token buckets on a real bus."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from app.access.limits import LimitDecision, Limiter
from app.contract.access import KeyLimits

#: The bus answers in time, however busy the machine is.
PATIENCE_SECONDS = 30


def limited(url: str, scenario: Callable[[Limiter], Awaitable[None]]) -> None:
    async def whole() -> None:
        limiter = Limiter(url, PATIENCE_SECONDS)
        try:
            await scenario(limiter)
        finally:
            await limiter.close()

    asyncio.run(whole())


def test_a_key_without_limits_needs_no_bus(tmp_path: Path) -> None:
    async def scenario(limiter: Limiter) -> None:
        taken = await limiter.take("key_1", KeyLimits(), requests=1, inputs=1000)
        assert taken == LimitDecision(allowed=True)
        assert taken.headers() == {}

    limited(f"unix://{tmp_path}/none", scenario)


def test_without_the_bus_no_limit_applies(tmp_path: Path) -> None:
    async def scenario(limiter: Limiter) -> None:
        for _ in range(5):
            assert (await limiter.take("key_1", KeyLimits(requests_per_minute=1), requests=1)).allowed

    limited(f"unix://{tmp_path}/none", scenario)


def test_a_full_bucket_holds_a_minutes_worth_then_refuses(bus_url: str) -> None:
    async def scenario(limiter: Limiter) -> None:
        limits = KeyLimits(requests_per_minute=3)
        taken = [await limiter.take("key_1", limits, requests=1) for _ in range(4)]
        assert [one.allowed for one in taken] == [True, True, True, False]
        assert [one.buckets[0].left for one in taken] == [2, 1, 0, 0]
        assert 0 < taken[3].wait_seconds <= 20  # one of three a minute
        assert (await limiter.take("key_2", limits, requests=1)).allowed  # a bucket of its own

    limited(bus_url, scenario)


def test_a_bucket_fills_up_again(bus_url: str) -> None:
    async def scenario(limiter: Limiter) -> None:
        limits = KeyLimits(requests_per_minute=600)
        assert (await limiter.take("key_1", limits, requests=600)).allowed
        while (refused := await limiter.take("key_1", limits, requests=1)).allowed:
            pass  # a busy machine took a tenth of a second
        await asyncio.sleep(refused.wait_seconds + 0.01)
        assert (await limiter.take("key_1", limits, requests=1)).allowed

    limited(bus_url, scenario)


def test_what_is_refused_takes_nothing_from_any_bucket(bus_url: str) -> None:
    async def scenario(limiter: Limiter) -> None:
        limits = KeyLimits(requests_per_minute=100, inputs_per_minute=10)
        refused = await limiter.take("key_1", limits, requests=1, inputs=11)
        assert not refused.allowed
        assert refused.exhausted == "inputs"
        taken = await limiter.take("key_1", limits, requests=1, inputs=10)
        assert taken.allowed
        assert [bucket.left for bucket in taken.buckets] == [99, 0]

    limited(bus_url, scenario)


def test_two_gateways_share_the_buckets(bus_url: str) -> None:
    async def scenario(limiter: Limiter) -> None:
        other = Limiter(bus_url, PATIENCE_SECONDS)
        try:
            limits, began = KeyLimits(requests_per_minute=10), time.monotonic()
            taken = await asyncio.gather(
                *(each.take("key_1", limits, requests=1) for each in (limiter, other) for _ in range(10))
            )
        finally:
            await other.close()
        refilled = (time.monotonic() - began) / 6  # on a busy machine
        assert 10 <= sum(one.allowed for one in taken) <= 10 + refilled

    limited(bus_url, scenario)


def test_headers_are_structured_fields_of_the_draft(bus_url: str) -> None:
    async def scenario(limiter: Limiter) -> None:
        limits = KeyLimits(requests_per_minute=60, inputs_per_minute=6000)
        headers = (await limiter.take("key_1", limits, requests=1, inputs=6000)).headers()
        assert headers["RateLimit-Policy"] == '"requests";q=60;w=60, "inputs";q=6000;w=60;qu="inputs"'
        assert headers["RateLimit"] == '"requests";r=59;t=1, "inputs";r=0;t=60'
        refused = await limiter.take("key_1", limits, requests=1, inputs=6000)
        assert 0 < refused.wait_seconds <= 60
        assert refused.headers()["RateLimit"].endswith(f";t={math.ceil(refused.wait_seconds)}")  # when to come again

    limited(bus_url, scenario)
