"""``GET /models``: the base models of the allow-list."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter

from app.contract.access import Scope
from app.contract.messages import DeviceState
from app.contract.payload import Payload
from app.gateway import GatewayDep
from app.routes.guard import GuardedRoute, needs
from app.routes.lists import Listing
from app.routes.openapi import problems

router = APIRouter(tags=["models"], route_class=GuardedRoute)


class BaseModelInfo(Payload):
    """A base model. ``parameters``, ``context_length`` (tokens) and ``device`` are null while no worker serves it.

    ``devices`` has one entry a worker, with the device's memory in bytes; ``device`` is the first of them.
    """

    id: str
    object: Literal["model"] = "model"
    parameters: int | None
    context_length: int | None
    device: str | None
    devices: tuple[DeviceState, ...]
    workers: int
    resident_contexts: int


@router.get("/models", responses=problems(), dependencies=[needs(Scope.READ, Scope.CLASSIFY)])
def list_models(gateway: GatewayDep) -> Listing[BaseModelInfo]:
    """List the base models; the first is the default."""
    infos = []
    for model in gateway.settings.models:
        ready = [a for a in gateway.bus.announcements(model) if a.ready]
        devices = tuple(a.device for a in ready if a.device is not None)
        infos.append(
            BaseModelInfo(
                id=model,
                parameters=ready[0].parameters if ready else None,
                context_length=ready[0].context_length if ready else None,
                device=devices[0].id if devices else None,
                devices=devices,
                workers=len(ready),
                resident_contexts=sum(a.resident_contexts for a in ready),
            )
        )
    return Listing[BaseModelInfo](data=tuple(infos), has_more=False, next=None)
