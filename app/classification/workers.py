"""Live workers: what they announce on the bus, looked at every moment. Knows nothing of what is asked of them."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable
from typing import Final, cast

import redis.asyncio
import structlog
from redis.exceptions import RedisError

from app.contract.announcements import ANNOUNCE_EVERY_SECONDS, ANNOUNCEMENT_SECONDS, KEYS, LIVE, BusClock
from app.contract.messages import Announcement

_LOOK_SECONDS: Final = ANNOUNCE_EVERY_SECONDS / 3


class LiveWorkers:
    """The workers that are announced on the bus behind ``client``; `watch` keeps the picture fresh."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self.clock = BusClock()
        self._client = client
        self._announcements: list[Announcement] = []
        self._looked_at = -math.inf
        self._unreadable: set[str] = set()
        self._ready_at: dict[str, float] = {}

    def announcements(self, model: str | None = None) -> list[Announcement]:
        """What the workers of ``model``, or all, ready or loading, last said."""
        return [one for one in self._announcements if model is None or one.model == model]

    def count(self, model: str) -> int:
        """How many workers are ready for ``model``."""
        return sum(one.ready for one in self.announcements(model))

    def seconds_without(self, model: str) -> float:
        """How long no worker has been ready for ``model``; infinite if none ever was."""
        return 0.0 if self.count(model) else time.monotonic() - self._ready_at.get(model, -math.inf)

    def lives(self, worker_id: str) -> bool:
        """Whether a worker is announced, for any model."""
        return any(one.worker_id == worker_id for one in self._announcements)

    async def watch(self, stopped: Callable[[], bool]) -> None:
        """Look again and again until ``stopped``. What was seen last is good for as long as an announcement holds."""
        log = structlog.get_logger()
        while not stopped():  # a cancel can be lost inside redis-py's connect
            try:
                await self._look()
            except (RedisError, OSError) as error:
                log.warning("bus_unavailable", reason=str(error))
            except Exception as error:
                # Workers that are not seen get no work.
                log.error("watching_failed", exc_info=error)
            if time.monotonic() - self._looked_at > ANNOUNCEMENT_SECONDS:
                self._announcements = []
            await asyncio.sleep(_LOOK_SECONDS)

    async def _look(self) -> None:
        answer = await cast("asyncio.Future[object]", self._client.eval(LIVE, len(KEYS), *KEYS))
        clock, live = cast("tuple[list[int], list[str | None]]", answer)
        self.clock.note(clock)
        self._announcements = list(self._read(text for text in live if text))
        self._looked_at = time.monotonic()
        self._ready_at.update({one.model: self._looked_at for one in self._announcements if one.ready})

    def _read(self, texts: Iterable[str]) -> Iterable[Announcement]:
        """Those that can be read; each other is logged once and harms none."""
        unreadable: set[str] = set()
        for text in texts:
            try:
                yield Announcement.model_validate_json(text)
            except ValueError as error:
                unreadable.add(text)
                if text not in self._unreadable:
                    structlog.get_logger().warning("unreadable_announcement", reason=str(error))
        self._unreadable = unreadable
