"""Log lines of gateway and worker alike: one JSON object each on standard error. Users' texts are never logged.

A line that cannot be written, as on a full disk, is dropped and counted: logging never raises.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Annotated, Final, TextIO

import structlog
from pydantic import AfterValidator

_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
#: What becomes of every event, ours and those of libraries.
_SHARED: Final[tuple[structlog.types.Processor, ...]] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
)


def _known(level: str) -> str:
    if level.upper() not in _LEVELS:
        raise ValueError(f"must be one of {', '.join(_LEVELS)}")
    return level


#: A setting: from where lines are logged.
LogLevel = Annotated[str, AfterValidator(_known)]


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes log lines to a stream; once that takes any again, says how many were lost."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self.lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        before = self.lost
        super().emit(record)
        if before and self.lost == before:
            self.lost = 0
            text = f"log lines lost: {before}"
            super().emit(logging.LogRecord(record.name, logging.WARNING, "", 0, text, None, None))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - logging's signature
        """Count a line that could not be written."""
        self.lost += 1


def log_json_lines(level: str, own: Sequence[str] = ()) -> None:
    """Log from ``level`` (a name of `logging`) upwards; where loggers are our ``own``, others from WARNING upwards.

    Raises ValueError for an unknown level.
    """
    formatter = structlog.stdlib.ProcessorFormatter(
        processor=structlog.processors.JSONRenderer(), foreign_pre_chain=_SHARED
    )
    handler = LineHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level="WARNING" if own else level.upper(), force=True)
    for name in own:
        logging.getLogger(name).setLevel(level.upper())
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
