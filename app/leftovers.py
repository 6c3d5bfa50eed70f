"""Files that a request wrote and that nothing may refer to in the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


@asynccontextmanager
async def removed_after(remove: Callable[[], object]) -> AsyncIterator[None]:
    """Call ``remove``, in a thread, once what is within has succeeded or failed.

    A stop cancels what is within while a thread of it may still store rows that refer to the files: they stay, as after
    a crash, and a sweep removes them where no row came to refer to them.
    """
    try:
        yield
    except Exception:
        await asyncio.to_thread(remove)
        raise
    await asyncio.to_thread(remove)
