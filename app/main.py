"""The gateway process: ``create_app`` for any ASGI server, ``python -m app.main`` for ours."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from fastapi import Depends, FastAPI
from starlette.middleware.cors import CORSMiddleware

from app.compat import cohere, openai, systemone
from app.config import Settings
from app.contract.adapters import MAX_ADAPTER_BYTES
from app.contract.batches import MAX_BATCH_BYTES
from app.contract.traces import start_tracing, stop_tracing, tracing
from app.contract.version import VERSION
from app.forms import FIELD_BYTES, FORM_BYTES
from app.gateway import open_gateway
from app.middleware.bodies import MAX_BODY_BYTES, BodyMemory, BodyMiddleware, uploads_folder
from app.middleware.heads import HeadMiddleware
from app.middleware.hosts import HostMiddleware
from app.middleware.long_polls import LongPollMiddleware
from app.middleware.metrics import MetricsMiddleware
from app.middleware.origins import OriginMiddleware
from app.middleware.proxies import ProxyMiddleware
from app.middleware.request_ids import RequestIdMiddleware
from app.middleware.stopping import StoppingMiddleware
from app.middleware.traces import TraceMiddleware
from app.problems import install_error_handlers
from app.records.requirements import bus_refusal, refusal
from app.routes import (
    accounts,
    adapters,
    aliases,
    batches,
    classify,
    context_creation,
    contexts,
    docs,
    doors,
    events,
    health,
    imports,
    jobs,
    keys,
    metrics,
    models,
    tenants,
    webhooks,
)
from app.routes.openapi import add_links, add_schemas, describe_doors
from app.routes.query import only_known_parameters
from app.server import serve
from app.telemetry.logs import configure_logging

_DESCRIPTION: Final = (
    "Turns a handful of labelled examples into a classifier: create a context, wait for its job, classify."
)

#: What the bodies of all requests may hold in memory at once (bytes); what is made of them takes some times as much.
_BODY_MEMORY_BYTES: Final = 48 * 1024 * 1024

#: Most bytes of a ``POST /contexts``: 10,000 examples, and texts to calibrate by, of some kilobytes each.
_MAX_CONTEXT_BYTES: Final = 64 * 1024 * 1024

#: Headers of answers that scripts of an allowed origin may read.
_EXPOSED_HEADERS: Final = (
    "Location",
    "Retry-After",
    "retry-after-ms",
    "X-Request-Id",
    "RateLimit",
    "RateLimit-Policy",
    "Contextune-Complete",
)


#: What routes take as their bodies.
_BODIES: Final = (
    context_creation.NewContext,
    contexts.ContextChanges,
    classify.ClassifyRequest,
    keys.KeyRequest,
    tenants.TenantChanges,
    webhooks.NewWebhook,
    aliases.AliasTarget,
    openai.DecisionRequest,
    systemone.SystemOneRequest,
    cohere.CohereRequest,
)


class _Application(FastAPI):
    """Describes what FastAPI does not see: the problem document, and bodies that the routes read themselves."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = super().openapi()
            add_schemas(document["components"]["schemas"], _BODIES)
            describe_doors(document["paths"])
            add_links(document["paths"])
        return super().openapi()


def create_app(settings: Settings, stopping: asyncio.Event | None = None) -> FastAPI:
    """The gateway as an ASGI application. It connects when it starts, and needs no server to be up by then.

    Requests that wait for a job end early once ``stopping`` is set.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_gateway(settings, stopping or asyncio.Event()) as gateway:
            app.state.gateway = gateway
            yield

    app = _Application(
        title="Contextune",
        version=VERSION,
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # `docs` has its own
        redoc_url=None,
        redirect_slashes=False,  # a redirect names the host that the client sent
        dependencies=[Depends(only_known_parameters)],
    )
    nouns = (  # routes are tried in this order: those that are asked most often come first
        classify,
        context_creation,
        imports,
        contexts,
        aliases,
        jobs,
        adapters,
        batches,
        events,
        models,
        keys,
        tenants,
        accounts,
        webhooks,
    )
    app.include_router(doors.router)
    app.include_router(doors.aliases)
    for noun in nouns:
        app.include_router(noun.router)
        app.include_router(noun.router, prefix="/v1", include_in_schema=False)
    for pages in (health, metrics, docs):
        app.include_router(pages.router)
    app.mount(docs.ASSETS_PATH, docs.assets())
    install_error_handlers(app)
    _add_middleware(app, settings)
    return app


def _add_middleware(app: FastAPI, settings: Settings) -> None:
    """What each request passes, from the innermost to the outermost."""
    app.add_middleware(HeadMiddleware)
    app.add_middleware(
        BodyMiddleware,
        memory=BodyMemory(_BODY_MEMORY_BYTES),
        limit=_body_limit,
        folder=uploads_folder(settings.artifacts_url, settings.data_dir),
    )
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=_EXPOSED_HEADERS,
        )
    app.add_middleware(OriginMiddleware, allowed=settings.allowed_origins)
    app.add_middleware(HostMiddleware, bound=settings.host, allowed=settings.allowed_hosts)
    app.add_middleware(ProxyMiddleware, trusted=settings.trusted_proxies)
    app.add_middleware(StoppingMiddleware)
    if tracing():
        app.add_middleware(TraceMiddleware)
    app.add_middleware(RequestIdMiddleware)
    app.add_middleware(MetricsMiddleware)
    app.add_middleware(LongPollMiddleware)


def _body_limit(method: str, path: str) -> int:
    """Most bytes of the body of a request."""
    limits = {
        "/contexts": _MAX_CONTEXT_BYTES,
        "/contexts/import": MAX_ADAPTER_BYTES + FIELD_BYTES + FORM_BYTES,
        "/batches": MAX_BATCH_BYTES + FORM_BYTES,
    }
    return limits.get(path.removeprefix("/v1"), MAX_BODY_BYTES) if method == "POST" else MAX_BODY_BYTES


def main() -> None:
    """Serve until SIGTERM or SIGINT, configured by the environment."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # else the first process of a container ignores it as yet
    settings = Settings()
    configure_logging(settings.log_level)
    start_tracing("contextune-gateway")
    structlog.get_logger().info("gateway_starting", host=settings.host, port=settings.port)
    reason = (settings.store_url and refusal(settings.store_url)) or (
        settings.bus_url and bus_refusal(settings.bus_url)
    )
    if reason:
        structlog.get_logger().error("server_refused", reason=reason)
        sys.exit(1)
    try:
        serve(settings, create_app)
    finally:
        stop_tracing()


if __name__ == "__main__":
    main()
