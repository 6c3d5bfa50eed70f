"""Webhooks as users see them."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import AwareDatetime

from app.contract.payload import Payload


class EventType(StrEnum):
    """What a webhook can be told of: the three ends of a job, of any kind."""

    JOB_SUCCEEDED = "job.succeeded"
    JOB_FAILED = "job.failed"
    JOB_CANCELLED = "job.cancelled"


class Webhook(Payload):
    """An address that is told of events."""

    id: str
    object: Literal["webhook"] = "webhook"
    url: str
    events: tuple[EventType, ...]
    created_at: AwareDatetime
