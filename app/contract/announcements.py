"""Where workers are announced on the bus: one hash of announcements and one sorted set of when each expires.

A field is ``<place> <model>``. A *place* is where one worker process at a time runs: the next one there replaces what
its predecessor said. Expiry is on the bus's clock, and what has expired is removed by whoever announces next.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

#: KEYS of all scripts: the hash, the sorted set.
KEYS: Final = ("contextune:workers", "contextune:workers-expire")

#: How long an announcement holds, and how often it is renewed (seconds).
ANNOUNCEMENT_SECONDS: Final = 6.0
ANNOUNCE_EVERY_SECONDS: Final = 1.5

#: ARGV: milliseconds that the announcements hold, then place, model and announcement of each. Returns the bus's TIME.
ANNOUNCE: Final = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
for i = 2, #ARGV, 3 do
  local field = ARGV[i] .. ' ' .. ARGV[i + 1]
  redis.call('HSET', KEYS[1], field, ARGV[i + 2])
  redis.call('ZADD', KEYS[2], now + ARGV[1], field)
end
for _, field in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now)) do
  redis.call('HDEL', KEYS[1], field)
  redis.call('ZREM', KEYS[2], field)
end
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[1]) end
return clock
"""

#: Returns the bus's TIME and the announcements that hold.
LIVE: Final = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local live = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. now, '+inf')
return {clock, #live > 0 and redis.call('HMGET', KEYS[1], unpack(live)) or {}}
"""

#: ARGV: a place. Takes back what was announced from there.
WITHDRAW: Final = """
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if field:sub(1, #ARGV[1] + 1) == ARGV[1] .. ' ' then
    redis.call('HDEL', KEYS[1], field)
    redis.call('ZREM', KEYS[2], field)
  end
end
"""


class BusClock:
    """The bus's clock (seconds) as this process knows it: its TIME when last asked, and what has gone by since.

    The machine's wall clock is never read. Unknown until `note` is first called.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._ahead: float | None = None

    def note(self, clock: tuple[int, int] | list[int]) -> None:
        """Note the answer to TIME, seconds and microseconds, that came just now."""
        self._ahead = int(clock[0]) + int(clock[1]) / 1e6 - self._monotonic()

    def in_seconds(self, seconds: float) -> float:
        """The bus's time in ``seconds`` from now. Raises LookupError while it is not known."""
        if self._ahead is None:
            raise LookupError("the bus has not told its time yet")
        return self._monotonic() + self._ahead + seconds

    def seconds_until(self, moment: float) -> float:
        """How long it is until ``moment`` on the bus's clock; negative after it, infinite while that is not known."""
        return float("inf") if self._ahead is None else moment - self._ahead - self._monotonic()
