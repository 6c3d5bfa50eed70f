"""``python -m app.standalone.workers``: a worker for each device of this machine or container, and nothing else.

Store and bus are elsewhere, by URL. A worker that ends is started again alone. All lines are on standard error.
"""

from __future__ import annotations

import os
import sys
from typing import Final

import structlog

from app.config import Settings
from app.contract.log_lines import log_json_lines
from app.standalone.children import ChildError
from app.standalone.devices import worker_devices
from app.standalone.processes import workers
from app.standalone.supervisor import StartFailedError, Supervisor

_NAME: Final = "app.standalone.workers"  # also where this module is run as a program


class _LogLines:
    """Tells whoever reads the log."""

    def stage(self, text: str) -> None:
        """Nothing is waited for."""

    def event(self, text: str) -> None:
        structlog.get_logger(_NAME).info("supervisor", message=text)

    def ready(self) -> None:
        structlog.get_logger(_NAME).info("supervisor", message="the workers are started")


def main() -> None:
    """Run until a signal ends it. Exits with a message where a worker cannot be started."""
    settings = Settings()
    log_json_lines("INFO", own=[_NAME])
    if not settings.store_url or not settings.bus_url:
        sys.exit("CONTEXTUNE_STORE_URL and CONTEXTUNE_BUS_URL must name the servers of the gateway")
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}  # a crash must not take the end of the log with it
    try:
        devices = worker_devices(settings.devices, environment)
        processes = workers(settings, devices, environment, settings.bus_url, logs=None)
        Supervisor(processes, lambda: None, _LogLines()).run()
    except (ChildError, StartFailedError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
