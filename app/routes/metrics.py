"""``GET /metrics``: the metrics of this gateway for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Response

from app.contract.access import Scope
from app.gateway import GatewayDep
from app.routes.guard import GuardedRoute, needs
from app.telemetry.metrics import CONTENT_TYPE

router = APIRouter(tags=["metrics"], route_class=GuardedRoute)


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}},
    dependencies=[needs(Scope.OPERATOR, unless="metrics_open")],
)
def metrics(gateway: GatewayDep) -> Response:
    """Requests, latencies, batches, queues, workers and their devices, in Prometheus' text format."""
    return Response(gateway.metrics.page(), media_type=CONTENT_TYPE)
