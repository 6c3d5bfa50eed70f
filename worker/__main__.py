"""The worker process: ``python -m worker``, configured by the environment."""

from __future__ import annotations

import os
import signal
import sys
from threading import Timer

import structlog
from celery.signals import worker_shutting_down
from transformers.utils.logging import disable_progress_bar

from app.contract.log_lines import log_json_lines
from app.contract.traces import start_tracing, stop_tracing
from app.records.requirements import bus_refusal, refusal
from worker.celery_app import create_celery_app, serve
from worker.config import WorkerSettings
from worker.devices import NoSuchDevice
from worker.host import Host

#: How long a process that cannot go on may take to end in order: what is stuck in it may never end.
_LAST_SECONDS = 15.0


def main() -> None:
    """Load the models, then work until SIGTERM or SIGINT. Exits with a status that is not 0 where it cannot go on."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # else the first process of a container ignores it as yet
    settings = WorkerSettings()  # type: ignore[call-arg]  # the environment gives the URLs
    log_json_lines(settings.log_level, own=["app", "worker"])
    start_tracing("contextune-worker")
    disable_progress_bar()
    if reason := refusal(settings.store_url) or bus_refusal(settings.bus_url):
        structlog.get_logger().error("server_refused", reason=reason)
        sys.exit(1)
    host = Host(settings, on_failure=_end)

    def give_job_back(**_: object) -> None:
        host.stop_tuning()

    worker_shutting_down.connect(give_job_back)
    try:
        _load(host)
        host.start()
        serve(create_celery_app(settings.bus_url, host), host.queues)
    finally:
        host.stop()
        stop_tracing()
        if host.failure is not None:
            os._exit(os.EX_SOFTWARE)


def _load(host: Host) -> None:
    """Load the models, or exit with a line that says what is not there."""
    try:
        host.load()
    except NoSuchDevice as error:
        sys.exit(f"CONTEXTUNE_DEVICE: {error}")
    except OSError as error:
        structlog.get_logger().error("not_loaded", exc_info=error)
        sys.exit(f"a model of CONTEXTUNE_MODELS, or its encoder, was not loaded: {' '.join(str(error).split())}")


def _end() -> None:
    """End this process: in order if it can, else in any case."""
    last = Timer(_LAST_SECONDS, os._exit, [os.EX_SOFTWARE])
    last.daemon = True
    last.start()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
