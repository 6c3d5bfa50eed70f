"""The base of everything that is read from the service."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Answered(BaseModel):
    """Something that the service answered. Fields that are not known are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())
