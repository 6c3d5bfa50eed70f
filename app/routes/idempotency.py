"""``Idempotency-Key`` (draft-ietf-httpapi-idempotency-key-header): what is sent again creates nothing."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated

from fastapi import Header

from app.contract.names import ErrorCode
from app.contract.payload import Payload
from app.errors import DomainError
from app.records.connection import StoreUnavailable
from app.records.idempotency import Answered, Earlier, InProgress, KeyClaim
from app.records.store import TenantRecords

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="a text of your choice: the same request with the same key creates once, for 24 hours",
    ),
]


@dataclass(frozen=True)
class Attempt:
    """One request with a key or without; ``before`` is what was answered to the first with the same key and content."""

    content: str
    claim: KeyClaim | None = None
    before: str | None = None

    def answered(self, answer: str) -> Answered | None:
        """What is to be kept with what the request creates."""
        return self.claim.answered(self.content, answer) if self.claim else None


@asynccontextmanager
async def attempt(records: TenantRecords, key: str | None, route: str, body: Payload) -> AsyncIterator[Attempt]:
    """Create within, once for each ``key``. What fails leaves the key to the next request.

    Raises `DomainError` (``idempotency_in_progress``, ``idempotency_key_reused``).
    """
    if key is None:
        yield Attempt("")
        return
    content = hashlib.sha256(body.model_dump_json(exclude_unset=True).encode()).hexdigest()
    found = await asyncio.to_thread(records.idempotency.begin, key, route)
    if isinstance(found, InProgress):
        detail = "a request with this idempotency key is being worked on"
        raise DomainError(ErrorCode.IDEMPOTENCY_IN_PROGRESS, detail, retry_after=1.0)
    if isinstance(found, Earlier):
        if (found.route, found.content) != (route, content):
            detail = "this idempotency key was used for another request"
            raise DomainError(ErrorCode.IDEMPOTENCY_KEY_REUSED, detail)
        yield Attempt(content, before=found.answer)
        return
    try:
        yield Attempt(content, found)
    except BaseException:
        with suppress(StoreUnavailable):  # the claim runs out by itself
            await asyncio.shield(asyncio.to_thread(records.idempotency.give_up, found))
        raise
