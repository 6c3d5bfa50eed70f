"""``GET /metrics``: the metrics of this gateway for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Response

from app.gateway import GatewayDep
from app.telemetry.metrics import CONTENT_TYPE

router = APIRouter(tags=["metrics"])


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(gateway: GatewayDep) -> Response:
    """Requests, latencies, batches, queues, workers and their devices, in Prometheus' text format."""
    return Response(gateway.metrics.page(), media_type=CONTENT_TYPE)
