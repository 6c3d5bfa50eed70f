"""The gateway process: ``create_app`` for any ASGI server, ``python -m app.main`` for ours."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any, Final

import structlog
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from app.classification.admission import Overloaded
from app.classification.bus import BusUnavailable, DeadlineExceeded, ModelUnsupported, NoWorker, Refused, WorkerLost
from app.config import Settings
from app.contract.names import ErrorCode
from app.contract.version import VERSION
from app.gateway import open_gateway
from app.middleware import BodyLimitMiddleware, RequestIdMiddleware
from app.problems import Problem, install_error_handlers, problem_response
from app.records.contexts import QueueFull
from app.records.lists import UnknownCursor
from app.records.rows import NewerFormat
from app.routes import classify, contexts, docs, health, jobs, models
from app.routes.responses import problem_schemas
from app.telemetry.logs import configure_logging

_DESCRIPTION = "Turns a handful of labelled examples into a classifier: create a context, wait for its job, classify."

#: Exit status of a server that could not start, such as on a port in use; uvicorn's own.
_STARTUP_FAILURE: Final = 3

#: How long an idle connection stays open (seconds): longer than clients and proxies keep theirs, or one would send a
#: request just as the server closes.
_KEEP_ALIVE: Final = 120

#: What uvicorn warns of at each offer of another protocol; that it is passed over needs nobody's attention.
_UPGRADE_WARNINGS: Final = ("Unsupported upgrade request", "No supported WebSocket library")

#: What the bus, the batcher and the lists may raise, as problems.
_PROBLEMS: dict[type[Exception], Problem] = {
    BusUnavailable: Problem(ErrorCode.BUS_UNAVAILABLE, "the bus does not answer"),
    NoWorker: Problem(ErrorCode.NO_WORKER, "no live worker serves this model"),
    WorkerLost: Problem(ErrorCode.WORKER_LOST, "the workers died over this request"),
    DeadlineExceeded: Problem(ErrorCode.DEADLINE_EXCEEDED, "no answer within the deadline"),
    Overloaded: Problem(ErrorCode.OVERLOADED, "too many inputs wait for this model"),
    UnknownCursor: Problem(ErrorCode.INVALID_REQUEST, "`after` is not a cursor of a list", "/after"),
}


class _Application(FastAPI):
    """Describes the problem document among its components: FastAPI itself knows JSON answers only."""

    def openapi(self) -> dict[str, Any]:
        description = super().openapi()
        description["components"]["schemas"].update(problem_schemas())
        return description


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
    )
    for route in (contexts, jobs, classify, models, health, docs):
        app.include_router(route.router)
    app.mount(docs.ASSETS_PATH, docs.assets())
    install_error_handlers(app)
    for kind, problem in _PROBLEMS.items():
        app.add_exception_handler(kind, partial(_answer, problem))
    app.add_exception_handler(Refused, _answer_refused)
    app.add_exception_handler(QueueFull, _answer_queue_full)
    app.add_exception_handler(NewerFormat, _answer_newer_format)
    app.add_exception_handler(ModelUnsupported, _answer_unsupported)
    app.add_middleware(BodyLimitMiddleware)
    app.add_middleware(RequestIdMiddleware)
    return app


async def _answer(problem: Problem, request: Request, _error: Exception) -> JSONResponse:
    return problem_response(request, problem)


async def _answer_refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refused)  # noqa: S101 - registered for this type
    return problem_response(request, Problem.from_failure(error.failure))


async def _answer_queue_full(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, QueueFull)  # noqa: S101 - registered for this type
    return problem_response(request, Problem(ErrorCode.QUOTA if error.quota else ErrorCode.OVERLOADED, str(error)))


async def _answer_newer_format(request: Request, error: Exception) -> JSONResponse:
    return problem_response(request, Problem(ErrorCode.FORMAT_UNSUPPORTED, str(error)))


async def _answer_unsupported(request: Request, error: Exception) -> JSONResponse:
    return problem_response(request, Problem(ErrorCode.MODEL_UNSUPPORTED, str(error), "/model"))


class _Server(uvicorn.Server):
    """Sets ``stopping`` at the first signal: a request that waits would otherwise be cut off when the grace ends."""

    def __init__(self, config: uvicorn.Config, stopping: asyncio.Event) -> None:
        super().__init__(config)
        self._stopping = stopping

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop."""
        self._stopping.set()
        super().handle_exit(sig, frame)


def main() -> None:
    """Serve until SIGTERM or SIGINT, configured by the environment."""
    settings = Settings()
    configure_logging(settings.log_level)
    structlog.get_logger().info("gateway_starting", host=settings.host, port=settings.port)
    logging.getLogger("uvicorn.error").addFilter(lambda record: not record.getMessage().startswith(_UPGRADE_WARNINGS))
    stopping = asyncio.Event()
    config = uvicorn.Config(
        create_app(settings, stopping),
        host=settings.host,
        port=settings.port,
        http="h11",  # httptools loses the body of a request that offers another protocol
        ws="none",
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=8,
        timeout_keep_alive=_KEEP_ALIVE,
    )
    server = _Server(config, stopping)
    with suppress(KeyboardInterrupt):  # uvicorn raises a signal again once it has stopped
        server.run()
    if not server.started:
        sys.exit(_STARTUP_FAILURE)


if __name__ == "__main__":
    main()
