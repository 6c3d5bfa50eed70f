"""``Idempotency-Key`` (draft-ietf-httpapi-idempotency-key-header): what is sent again creates nothing."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Header

from app.contract.names import ErrorCode
from app.contract.payload import Payload
from app.errors import DomainError
from app.records.connection import StoreUnavailable
from app.records.idempotency import Answered, Earlier, InProgress, KeyClaim
from app.records.store import TenantRecords

#: How often the claim on an idempotency key is renewed.
RENEW_SECONDS: Final = 20.0

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


@dataclass(frozen=True)
class StreamedAttempt:
    """One request, with a key or without, whose content is known once its body was read."""

    records: TenantRecords
    route: str
    found: KeyClaim | Earlier | None = None

    @property
    def repeats(self) -> bool:
        """Whether there was a request with the same key before, so that this one creates nothing."""
        return isinstance(self.found, Earlier)

    def before(self, content: str) -> str | None:
        """What was answered to the first. Raises `DomainError` (``idempotency_key_reused``) if it was another."""
        if not isinstance(self.found, Earlier):
            return None
        if (self.found.route, self.found.content) != (self.route, _hashed(content)):
            detail = "this idempotency key was used for another request"
            raise DomainError(ErrorCode.IDEMPOTENCY_KEY_REUSED, detail)
        return self.found.answer

    def answered(self, content: str, answer: str) -> Answered | None:
        """What is to be kept with what the request creates."""
        return self.found.answered(_hashed(content), answer) if isinstance(self.found, KeyClaim) else None

    async def renew(self) -> None:
        """Hold the key while the body arrives. A claim that ran out all the same is noticed when it is to be kept."""
        if isinstance(self.found, KeyClaim):
            await asyncio.to_thread(self.records.idempotency.renew, self.found)

    @asynccontextmanager
    async def held(self, every: float = RENEW_SECONDS) -> AsyncIterator[None]:
        """Hold the key within, renewed ``every`` so many seconds, for what takes longer than a claim."""

        async def renew_until_cancelled() -> None:
            while True:
                await asyncio.sleep(every)
                with suppress(StoreUnavailable):
                    await self.renew()

        renewing = asyncio.create_task(renew_until_cancelled())
        try:
            yield
        finally:
            renewing.cancel()


@asynccontextmanager
async def attempt(records: TenantRecords, key: str | None, route: str, body: Payload) -> AsyncIterator[Attempt]:
    """Create within, once for each ``key``. What fails leaves the key to the next request.

    Raises `DomainError` (``idempotency_in_progress``, ``idempotency_key_reused``).
    """
    if key is None:
        yield Attempt("")
        return
    text = await asyncio.to_thread(body.model_dump_json, exclude_unset=True)  # of 60 MB it takes most of a second
    content = await asyncio.to_thread(_hashed, text)
    async with attempt_streamed(records, key, route) as once:
        claim = once.found if isinstance(once.found, KeyClaim) else None
        yield Attempt(content, claim, await asyncio.to_thread(once.before, text))


@asynccontextmanager
async def attempt_streamed(records: TenantRecords, key: str | None, route: str) -> AsyncIterator[StreamedAttempt]:
    """The same for a body that is read within. Raises `DomainError` (``idempotency_in_progress``)."""
    found = await asyncio.to_thread(records.idempotency.begin, key, route) if key is not None else None
    if isinstance(found, InProgress):
        detail = "a request with this idempotency key is being worked on"
        raise DomainError(ErrorCode.IDEMPOTENCY_IN_PROGRESS, detail, retry_after=1.0)
    try:
        yield StreamedAttempt(records, route, found)
    except BaseException:
        if isinstance(found, KeyClaim):
            with suppress(StoreUnavailable):  # the claim runs out by itself
                await asyncio.shield(asyncio.to_thread(records.idempotency.give_up, found))
        raise


def _hashed(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()
