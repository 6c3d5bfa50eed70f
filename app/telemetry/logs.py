"""Logging of the gateway: one JSON object a line on standard error. Users' texts are never logged."""

from __future__ import annotations

import logging

import structlog


def configure_logging(level: str) -> None:
    """Log from ``level`` (a name of `logging`) upwards, our events and those of libraries alike.

    Raises ValueError for an unknown level.
    """
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,  # the id of the request that a line is about
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        processor=structlog.processors.JSONRenderer(), foreign_pre_chain=shared
    )
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
