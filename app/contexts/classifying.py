"""Classifying texts, with a context or with what a request brings: what ``/classify`` and every door call."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from app.classification.batcher import Batcher
from app.classification.bus import DeadlineExceeded, Refused
from app.classification.lines import Answered
from app.contexts.lookup import find_ready
from app.contract.messages import Scored, Truncate
from app.contract.names import ErrorCode
from app.contract.objects import Context
from app.contract.plain import PlainContext
from app.errors import DomainError
from app.records.store import TenantRecords


async def classify_texts(
    records: TenantRecords,
    batcher: Batcher,
    ref: str,
    truncate: Truncate,
    inputs: Sequence[str],
    *,
    exact: bool = False,
) -> tuple[Context, list[Scored]]:
    """The context of a ref, without its report, and the answers to ``inputs`` in their order.

    With ``exact`` all labels are scored.

    Raises `DomainError`, `DeadlineExceeded`, and what `Batcher.classify` raises. Once cancelled, it sends nothing more.
    """
    try:
        async with asyncio.timeout(batcher.seconds_for(len(inputs))):
            stored, artifact = await asyncio.to_thread(find_ready, records, ref)
            context = stored.context
            structlog.contextvars.bind_contextvars(context_id=context.id)
            return context, (await batcher.classify(context.model, artifact, truncate, inputs, exact=exact)).scored
    except TimeoutError:
        raise DeadlineExceeded from None
    except Refused as refused:
        if refused.failure.code == ErrorCode.CONTEXT_NOT_FOUND:  # its artifact is gone: deleted meanwhile, or lost?
            await asyncio.to_thread(find_ready, records, context.id)
            raise DomainError(ErrorCode.ARTIFACT_CORRUPT, "the context's artifact is missing", "/context") from refused
        raise


async def classify_plainly(
    batcher: Batcher, model: str, plain: PlainContext, truncate: Truncate, inputs: Sequence[str]
) -> Answered:
    """The answers of a base model to ``inputs``, given a plain context. It is stored nowhere.

    Raises what `Batcher.classify` raises. Once cancelled, it sends nothing more.
    """
    await asyncio.to_thread(lambda: plain.address)  # hashing may take a while
    return await batcher.classify(model, plain, truncate, inputs)
