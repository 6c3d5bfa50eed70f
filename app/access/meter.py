"""What requests to classify took, and when keys were last used: added up here, written to the store once a minute.

A request to classify never writes to the store. What a crash of the gateway loses is what it counted since. Writes are
numbered: one whose answer was lost is written again under its number, and counts once.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from threading import Lock
from typing import Final

import structlog

from app.access.callers import Caller
from app.records.connection import StoreUnavailable, new_id
from app.records.store import Records

_WRITE_EVERY_SECONDS: Final = 60.0
#: Tenants whose usage one gateway remembers while the store is away.
_MOST_TENANTS: Final = 10_000


class Meter:
    """Adds up for ``records``; `try_to_write` each minute and at the end. Not for threads."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._used: dict[str, Counter[str]] = {}
        self._last_use: dict[str, float] = {}
        self._id = new_id("meter")
        self._write_number = 1
        self._unanswered: tuple[str, Counter[str]] | None = None
        self._writing = Lock()  # a thread writes on when the task that waits for it is cancelled

    def note_use(self, caller: Caller) -> None:
        """Count a request as the last use of the caller's key."""
        if caller.key is not None:
            self._last_use[caller.key_hash] = time.monotonic()

    def add(self, tenant: str, inputs: int, input_tokens: int, context_tokens: int) -> None:
        """Count an answered request to classify."""
        if tenant in self._used or len(self._used) < _MOST_TENANTS:
            used = Counter(requests=1, inputs=inputs, input_tokens=input_tokens, context_tokens=context_tokens)
            self._used.setdefault(tenant, Counter()).update(used)

    async def write_forever(self) -> None:
        """Write each minute, until cancelled."""
        while True:
            await asyncio.sleep(_WRITE_EVERY_SECONDS)
            await self.try_to_write()

    async def try_to_write(self) -> None:
        """Write what was counted; where the store is away, leave it to the next time.

        What is written is taken out first, here: a thread that read what requests add to meanwhile would lose some.
        """
        used, self._used = self._used, {}
        last_use, self._last_use = self._last_use, {}
        try:
            await asyncio.to_thread(self._write, used, last_use)
        except StoreUnavailable as error:
            structlog.get_logger().warning("usage_not_written", reason=str(error))
        except Exception as error:  # noqa: BLE001
            # Else nothing would be counted any more.
            structlog.get_logger().error("usage_failed", exc_info=error)
        for tenant, counted in used.items():
            self._used.setdefault(tenant, Counter()).update(counted)
        self._last_use = {**last_use, **self._last_use}

    def _write(self, used: dict[str, Counter[str]], last_use: dict[str, float]) -> None:
        """Write, and take out what is written or left to be written again. Raises `StoreUnavailable`."""
        with self._writing:
            if last_use:
                now = time.monotonic()
                self._records.access.touch({secret_hash: now - at for secret_hash, at in last_use.items()})
                last_use.clear()
            self._settle()
            for tenant in list(used):
                self._unanswered = tenant, used.pop(tenant)
                self._settle()

    def _settle(self) -> None:
        """Write what was not answered, if anything was not."""
        if self._unanswered is not None:
            tenant, counted = self._unanswered
            self._records.of(tenant).usage.add(counted, self._id, self._write_number)
            self._unanswered = None
            self._write_number += 1
