"""Independent passes of a model side by side.

On CPUs a core for each pass beats all cores for each pass in turn: no core waits for another at the end of every
product, least of all for one that the system has given to somebody else.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from threading import Barrier
from typing import TypeVar

import torch

T = TypeVar("T")


def lanes(device: torch.device) -> int:
    """How many passes may run side by side."""
    return torch.get_num_threads() if device.type == "cpu" else 1


def side_by_side(work: Sequence[Callable[[], T]]) -> list[T]:
    """The results of at most `lanes` pieces of work, in their order; a single one runs in this thread, on all cores.

    Raises what one of them raises, once all have ended.
    """
    if len(work) == 1:
        return [work[0]()]
    results = [_pool(torch.get_num_threads()).submit(piece) for piece in work]
    wait(results)
    return [result.result() for result in results]


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """Compute on so many threads within, where this thread asks for it; after it on as many as before.

    A thread that computes for the first time meanwhile takes this number for good.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that compute on one core each, and live as long as the process."""
    pool, started = ThreadPoolExecutor(threads, thread_name_prefix="lane"), Barrier(threads + 1)

    def start() -> None:
        torch.get_num_threads()  # a thread takes the general setting at its first use, which would undo the next line
        torch.set_num_threads(1)
        started.wait()

    for _ in range(threads):
        pool.submit(start)
    started.wait()
    torch.set_num_threads(threads)  # the setting of new threads too, which those above have changed
    return pool
