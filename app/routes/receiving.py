"""Bodies that are received as streams: decoded piece by piece and handed on in a thread, never held whole."""

from __future__ import annotations

import asyncio
import time
from typing import Final, Protocol

from fastapi import Request
from starlette.requests import ClientDisconnect

from app.contract.names import ErrorCode
from app.errors import DomainError
from app.routes.encodings import check_complete, decoded, decoder_of
from app.routes.idempotency import RENEW_SECONDS, StreamedAttempt

#: Bytes of a body that are handed on at once.
_BLOCK_BYTES: Final = 256 * 1024


class Receives(Protocol):
    """What takes a body as it arrives. Its methods block, and raise `DomainError` for a body that is not wanted."""

    def begin(self) -> None:
        """Take note of what will arrive."""

    def feed(self, data: bytes) -> None:
        """Take what has arrived."""


async def receive(request: Request, receiver: Receives, once: StreamedAttempt) -> None:
    """Hand the whole body to ``receiver``. Raises `DomainError` and what the receiver raises."""
    decoder = decoder_of(request.headers.get("content-encoding", ""))

    def feed(data: bytes) -> None:
        for block in decoded(decoder, data):
            receiver.feed(block)

    request.state.body.stream()
    gathered, renewed = bytearray(), time.monotonic()
    await asyncio.to_thread(receiver.begin)
    try:
        async for chunk in request.stream():
            gathered += chunk
            if len(gathered) >= _BLOCK_BYTES:
                await asyncio.to_thread(feed, bytes(gathered))
                gathered.clear()
            if time.monotonic() - renewed >= RENEW_SECONDS:
                await once.renew()
                renewed = time.monotonic()
    except ClientDisconnect:
        raise DomainError(ErrorCode.MALFORMED_REQUEST, "the body is incomplete") from None
    await asyncio.to_thread(feed, bytes(gathered))
    check_complete(decoder)
