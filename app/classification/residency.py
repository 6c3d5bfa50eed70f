"""Residency: lets every worker of a model make a context ready to answer, before an alias moves to it.

The request goes out on a channel that all workers hear; each of them answers for itself.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Final

import redis.asyncio
from pydantic import ValidationError
from redis.exceptions import RedisError

from app.classification.bus import Bus
from app.contract.messages import ResidencyReply, ResidencyRequest
from app.contract.names import RESIDENCY_CHANNEL

#: How long workers have before an alias moves all the same.
_RESIDENT_SECONDS: Final = 10.0


async def make_resident(bus: Bus, model: str, artifact: str, seconds: float = _RESIDENT_SECONDS) -> bool:
    """Whether every worker that is ready for ``model`` has the context of ``artifact`` ready to answer.

    Workers that have not are asked to load it; False where one cannot, where there is none, and after
    ``seconds``.
    """
    workers = {one.worker_id for one in bus.announcements(model) if one.ready}
    if not workers:
        return False
    request = ResidencyRequest(
        reply_to=f"contextune:reply:{secrets.token_hex(8)}", model=model, artifact=artifact
    )  # a channel of its own, since several workers answer
    try:
        async with asyncio.timeout(seconds):
            return await _all_have(bus.url, request, workers)
    except (TimeoutError, RedisError, OSError):
        return False


async def _all_have(url: str, request: ResidencyRequest, workers: set[str]) -> bool:
    client = redis.asyncio.Redis.from_url(url, decode_responses=True, socket_timeout=5, socket_connect_timeout=2)
    async with client, client.pubsub() as answers:
        await answers.subscribe(request.reply_to)
        await client.publish(RESIDENCY_CHANNEL, request.model_dump_json())
        missing = set(workers)
        while missing:
            message = await answers.get_message(ignore_subscribe_messages=True, timeout=1.0)
            reply = None if message is None else _read(message["data"])
            if reply is not None and not reply.resident:
                return False
            if reply is not None:
                missing.discard(reply.worker)
    return True


def _read(text: str) -> ResidencyReply | None:
    try:
        return ResidencyReply.model_validate_json(text)
    except ValidationError:
        return None
