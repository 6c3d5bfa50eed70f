"""The tasks: thin adapters between Celery messages and the host."""

from __future__ import annotations

from celery import Celery

from app.contract.names import CLASSIFY_TASK, TUNE_TASK
from worker.host import Host


def register_tasks(app: Celery, host: Host) -> None:
    """Give ``app`` its tasks, carried out by ``host``."""

    @app.task(name=TUNE_TASK)
    def tune(_job_id: str) -> None:
        """Wake the tuning thread. Which job it runs, the store decides."""
        host.wake()

    @app.task(name=CLASSIFY_TASK)
    def classify(payload: str) -> None:
        """Answer a `ClassifyBatch`."""
        host.answer_batch(payload)
