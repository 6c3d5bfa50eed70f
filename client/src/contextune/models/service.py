"""Base models, and whether the service is ready."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from contextune.models.answered import Answered
from contextune.models.listing import Page


class Device(Answered):
    """What a worker computes on, such as ``cuda:0``, and its memory."""

    id: str
    name: str = ""
    total_bytes: int = 0
    free_bytes: int = 0
    busy_seconds: float = 0.0


class BaseModelInfo(Answered):
    """What ``model`` may be: a base model, a name for one, or a context; ``kind`` says which.

    ``base_model`` is the id of the base model behind it, whose figures the others are; what nobody knows yet is None.
    """

    id: str
    object: str = "model"
    kind: str = "base_model"
    base_model: str | None = None
    created: int | None = None
    owned_by: str = ""
    parameters: int | None = None
    context_length: int | None = None
    device: str | None = None
    devices: tuple[Device, ...] = ()
    workers: int = 0
    resident_contexts: int = 0


class NamedModel(Answered):
    """A model in few words."""

    name: str
    description: str = ""
    release_date: str = ""


class ModelPage(Page[BaseModelInfo]):
    """All models; ``models`` are the same in few words."""

    models: tuple[NamedModel, ...] = ()


class Readiness(Answered):
    """Whether the service can answer now: ``status`` is ready or not_ready, ``checks`` says what is missing."""

    status: str
    checks: dict[str, Any] = Field(default_factory=dict)

    @property
    def ready(self) -> bool:
        """Whether requests can be answered."""
        return self.status == "ready"
