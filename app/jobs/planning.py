"""Plans: what a context would need, measured by a worker before anything is stored."""

from __future__ import annotations

from typing import Final

import structlog

from app.classification.bus import Bus
from app.contract.messages import PlanReply, PlanRequest
from app.contract.names import ErrorCode
from app.contract.traces import traceparent
from app.contract.tuning import Plan
from app.errors import DomainError
from app.records.connection import new_id
from app.records.specs import SpecFile

_PLAN_SECONDS: Final = 30.0


async def plan(bus: Bus, model: str, file: SpecFile) -> Plan:
    """What the spec in ``file`` needs, measured by a worker.

    Raises `DomainError` if it cannot be tuned, and what `Bus.call` raises.
    """
    request = PlanRequest(
        id=new_id("plan"),
        reply_to=bus.reply_channel,
        model=model,
        spec=file.address,
        request_id=structlog.contextvars.get_contextvars().get("request_id"),
        traceparent=traceparent(),
    )
    reply = PlanReply.model_validate_json(await bus.call(request, _PLAN_SECONDS))
    if reply.failure is not None:
        raise DomainError.from_failure(reply.failure)
    if reply.plan is None:
        raise DomainError(ErrorCode.INTERNAL, "a worker answered without a plan")
    return reply.plan
