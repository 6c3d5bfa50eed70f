"""The worker process: ``python -m worker``, configured by the environment."""

from __future__ import annotations

import logging
import sys

import structlog
from celery.signals import worker_shutting_down
from transformers.utils.logging import disable_progress_bar

from app.records.requirements import refusal
from worker.celery_app import create_celery_app, serve
from worker.config import WorkerSettings
from worker.host import Host


def main() -> None:
    """Load the models, then work until SIGTERM or SIGINT."""
    settings = WorkerSettings()  # type: ignore[call-arg]  # the environment gives the URLs
    _configure_logging(settings.log_level)
    disable_progress_bar()
    if reason := refusal(settings.store_url):
        structlog.get_logger().error("store_refused", reason=reason)
        sys.exit(1)
    host = Host(settings)

    def give_job_back(**_: object) -> None:
        host.stop_tuning()

    worker_shutting_down.connect(give_job_back)
    try:
        host.load()
        host.start()
        serve(create_celery_app(settings.bus_url, host), list(settings.models))
    finally:
        host.stop()


def _configure_logging(level: str) -> None:
    """Our events as one JSON object a line on standard error, libraries' warnings as text. No users' texts."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format='{"logger": "%(name)s", "event": "%(message)s"}'
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


if __name__ == "__main__":
    main()
