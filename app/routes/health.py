"""``/health``: whether the gateway lives, and whether it can reach what it needs."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response, status

from app.contract.messages import DeviceState
from app.contract.payload import Payload
from app.gateway import Gateway, GatewayDep
from app.records.connection import StoreUnavailable
from app.routes.guard import PUBLIC, GuardedRoute

router = APIRouter(tags=["health"], route_class=GuardedRoute)


class Alive(Payload):
    """The gateway answers."""

    status: Literal["ok"] = "ok"


class ModelState(Payload):
    """Whether a model can be used; ``stage`` says what its worker does meanwhile, or why it never will be.

    ``devices`` are those of its workers, with their memory in bytes.
    """

    status: Literal["ready", "loading", "unsupported", "no_worker"]
    workers: int
    stage: str | None
    devices: tuple[DeviceState, ...] = ()


class Checks(Payload):
    """Each thing that the service needs."""

    store: Literal["ok", "unavailable"]
    bus: Literal["ok", "unavailable"]
    models: dict[str, ModelState]


class Readiness(Payload):
    """Whether this gateway can take requests now: whether it reaches the store and the bus, whatever the models do."""

    status: Literal["ready", "not_ready"]
    checks: Checks


@router.get("/health/live", dependencies=[PUBLIC])
async def live() -> Alive:
    """Answer at all."""
    return Alive()


@router.get(
    "/health/ready",
    responses={503: {"model": Readiness, "description": "not ready"}},
    dependencies=[PUBLIC],
)
def ready(gateway: GatewayDep, response: Response) -> Readiness:
    """Check the store and the bus; 503 while one is missing. What each model's workers do is told besides."""
    checks = Checks(
        store=_store_state(gateway),
        bus="ok" if gateway.bus.connected else "unavailable",
        models={model: _model_state(gateway, model) for model in gateway.settings.models},
    )
    reached = checks.store == checks.bus == "ok"
    if not reached:
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    return Readiness(status="ready" if reached else "not_ready", checks=checks)


def _store_state(gateway: Gateway) -> Literal["ok", "unavailable"]:
    try:
        gateway.records.ping()
    except StoreUnavailable:
        return "unavailable"
    return "ok"


def _model_state(gateway: Gateway, model: str) -> ModelState:
    announced = gateway.bus.announcements(model)
    workers = gateway.bus.live_workers(model)
    if workers:
        devices = tuple(one.device for one in announced if one.ready and one.device is not None)
        return ModelState(status="ready", workers=workers, stage=None, devices=devices)
    for announcement in announced:
        if announcement.unsupported is not None:
            return ModelState(status="unsupported", workers=0, stage=announcement.unsupported)
    if announced:
        return ModelState(status="loading", workers=0, stage=announced[0].stage)
    return ModelState(status="no_worker", workers=0, stage=None)
