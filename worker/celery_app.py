"""The Celery application of a worker: how it talks to its broker, the bus.

JSON only, no result backend: replies travel by PUB/SUB. A message may be lost or come twice; nothing here relies on it.
"""

from __future__ import annotations

from celery import Celery

from app.contract.names import broker_url
from worker.host import Host
from worker.tasks import register_tasks

#: Threads of the pool: one's work is computed, the others wait for the device or wake the tuning thread. A
#: gateway has up to four batches under way for a worker and a model; a small one that waits in the queue passes
#: nothing. Many more would let a slow worker hoard what faster ones could do.
_CONCURRENCY = 8


def create_celery_app(bus_url: str, host: Host) -> Celery:
    """A Celery application whose tasks ``host`` carries out."""
    app = Celery("contextune-worker", broker=broker_url(bus_url), set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        broker_transport_options={"visibility_timeout": 24 * 3600, "socket_connect_timeout": 2},
        task_acks_late=True,
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_enable_remote_control=False,  # whoever reaches the bus could stop workers by it
        worker_cancel_long_running_tasks_on_connection_loss=False,
    )
    register_tasks(app, host)
    return app


def serve(app: Celery, queues: list[str]) -> None:
    """Consume ``queues`` until SIGTERM or SIGINT, then finish what was begun."""
    app.worker_main(
        [
            "worker",
            "--pool=threads",
            f"--concurrency={_CONCURRENCY}",
            f"--queues={','.join(queues)}",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
            "--loglevel=WARNING",
        ]
    )
