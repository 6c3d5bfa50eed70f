"""Logging of the gateway."""

from __future__ import annotations

from app.contract.log_lines import log_json_lines


def configure_logging(level: str) -> None:
    """Log from ``level`` (a name of `logging`) upwards, our events and those of libraries alike.

    Raises ValueError for an unknown level.
    """
    log_json_lines(level)
