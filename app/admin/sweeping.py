"""What every gateway does once a second: take jobs from lost workers, remove what is not kept any longer, and tenants.

Any number of gateways may do so at once. Each duty stands for itself: a failure of one does not stop the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog

from app.admin.tenants import remove_deleted
from app.contexts.deletion import collect, finish
from app.jobs.ending import remove_files, retire, sweep
from app.records.connection import StoreUnavailable
from app.records.files import ArtifactsUnavailable
from app.records.store import Records

_SWEEP_SECONDS: Final = 1.0


async def sweep_forever(records: Records, artifacts_url: str) -> None:
    """Do every duty, each a second after its last turn. Slow storage delays no other duty."""
    duties = (
        partial(sweep, records, artifacts_url),
        partial(retire, records),
        partial(remove_files, records, artifacts_url),
        partial(finish, records, artifacts_url),
        partial(collect, records, artifacts_url),
        partial(remove_deleted, records, artifacts_url),
    )
    async with asyncio.TaskGroup() as group:
        for duty in duties:
            group.create_task(_repeat(duty))


async def _repeat(duty: Callable[[], None]) -> None:
    while True:
        await asyncio.to_thread(_attempt, duty)
        await asyncio.sleep(_SWEEP_SECONDS)


def _attempt(duty: Callable[[], None]) -> None:
    log = structlog.get_logger()
    try:
        duty()
    except StoreUnavailable as error:
        log.warning("store_unavailable", reason=str(error))
    except ArtifactsUnavailable as error:
        log.warning("artifacts_unavailable", reason=str(error))
    except Exception as error:
        # Without the sweep no lost job would be requeued, and nothing removed.
        log.error("sweep_failed", exc_info=error)
