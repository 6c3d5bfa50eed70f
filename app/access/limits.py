"""Requests and inputs a minute: token buckets on the bus, one decision for each request whatever gateway takes it.

A bucket that is lost is a full one, and without the bus no limit applies: limits keep a key from crowding out others,
they grant nothing. The headers are those of draft-ietf-httpapi-ratelimit-headers-10.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Final, cast

import redis.asyncio
import structlog
from redis.exceptions import RedisError

from app.contract.access import KeyLimits

WINDOW_SECONDS: Final = 60

#: How long a request waits for its buckets, and how long none is asked after a failure (seconds).
_DEADLINE_SECONDS: Final = 0.25
_PAUSE_SECONDS: Final = 1.0

# A bucket is the time at which it will be full (generic cell rate algorithm): one number, which expires when it passes.
# KEYS: buckets. ARGV: the window in microseconds, then for each bucket its size and what to take from it.
# Takes from all or from none. Returns 1 if it took, then for each bucket the size of what is left, the microseconds
# until what was asked for will be there, and those until it is full.
_TAKE: Final = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local window, fits, times = tonumber(ARGV[1]), 1, {}
for i, key in ipairs(KEYS) do
  local size, cost = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  local before = math.max(now, math.min(tonumber(redis.call('GET', key) or now), now + window))
  local wait = before + cost * window / size - now - window
  times[i] = {before, before + cost * window / size, math.max(0, wait)}
  if wait > 0.5 then fits = 0 end
end
local answer = {fits}
for i, key in ipairs(KEYS) do
  local full = fits == 1 and times[i][2] or times[i][1]
  if fits == 1 and full > now then
    redis.call('SET', key, string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000))
  end
  table.insert(answer, math.floor((now + window - full) * ARGV[2 * i] / window + 0.000001))
  table.insert(answer, math.ceil(times[i][3]))
  table.insert(answer, math.ceil(full - now))
end
return answer
"""


@dataclass(frozen=True)
class Bucket:
    """What is left of a limit: ``wait_seconds`` until what was asked for is there, ``full_seconds`` until all is."""

    name: str
    size: int
    left: int
    wait_seconds: float
    full_seconds: float


@dataclass(frozen=True)
class LimitDecision:
    """Whether a request may go on, and the buckets of its key."""

    allowed: bool
    buckets: tuple[Bucket, ...] = ()

    @property
    def wait_seconds(self) -> float:
        """Seconds until the same request would be allowed."""
        return max((bucket.wait_seconds for bucket in self.buckets), default=0.0)

    @property
    def exhausted(self) -> str:
        """The name of the limit that a request waits for longest."""
        return max(self.buckets, key=lambda bucket: bucket.wait_seconds).name

    def headers(self) -> dict[str, str]:
        """The fields ``RateLimit-Policy`` and ``RateLimit``; none for a key without limits."""
        if not self.buckets:
            return {}
        policies = [f'"{b.name}";q={b.size};w={WINDOW_SECONDS}{_unit(b.name)}' for b in self.buckets]
        states = [f'"{b.name}";r={b.left};t={math.ceil(b.wait_seconds or b.full_seconds)}' for b in self.buckets]
        return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(states)}


def _unit(name: str) -> str:
    return "" if name == "requests" else f';qu="{name}"'  # "requests" is the default


class Limiter:
    """Takes from the buckets on the bus behind ``url``, or lets all pass that wait longer; `close` after use."""

    def __init__(self, url: str, deadline_seconds: float = _DEADLINE_SECONDS) -> None:
        self._redis = redis.asyncio.Redis.from_url(
            url, socket_timeout=deadline_seconds, socket_connect_timeout=deadline_seconds, retry=None
        )
        self._take = self._redis.register_script(_TAKE)
        self._paused_until = -math.inf

    async def take(self, key_id: str, limits: KeyLimits, *, requests: int = 0, inputs: int = 0) -> LimitDecision:
        """Take from the buckets of a key that has limits on what is asked for."""
        wanted = [
            (name, size, cost)
            for name, size, cost in (
                ("requests", limits.requests_per_minute, requests),
                ("inputs", limits.inputs_per_minute, inputs),
            )
            if size is not None and cost
        ]
        if not wanted or time.monotonic() < self._paused_until:
            return LimitDecision(allowed=True)
        keys = [f"contextune:bucket:{key_id}:{name}" for name, _, _ in wanted]
        args = [WINDOW_SECONDS * 1_000_000, *(number for _, *numbers in wanted for number in numbers)]
        try:
            answer = cast("list[int]", await self._take(keys=keys, args=args))
        except (RedisError, OSError) as error:
            self._paused_until = time.monotonic() + _PAUSE_SECONDS
            structlog.get_logger().warning("limits_suspended", reason=str(error))
            return LimitDecision(allowed=True)
        figures = zip(wanted, answer[1::3], answer[2::3], answer[3::3], strict=True)
        buckets = [Bucket(name, size, left, w / 1e6, f / 1e6) for (name, size, _), left, w, f in figures]
        return LimitDecision(bool(answer[0]), tuple(buckets))

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()
