"""Base models, and whether the service is ready."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from contextune.models.answered import Answered


class Device(Answered):
    """What a worker computes on, such as ``cuda:0``, and its memory."""

    id: str
    name: str = ""
    total_bytes: int = 0
    free_bytes: int = 0
    busy_seconds: float = 0.0


class BaseModelInfo(Answered):
    """A base model, or another name that ``model`` may be; what nobody knows of it yet is None."""

    id: str
    object: str = "model"
    parameters: int | None = None
    context_length: int | None = None
    device: str | None = None
    devices: tuple[Device, ...] = ()
    workers: int = 0
    resident_contexts: int = 0


class Readiness(Answered):
    """Whether the service can answer now: ``status`` is ready or not_ready, ``checks`` says what is missing."""

    status: str
    checks: dict[str, Any] = Field(default_factory=dict)

    @property
    def ready(self) -> bool:
        """Whether requests can be answered."""
        return self.status == "ready"
