"""The device: one thread that computes. Work lets the queries that wait pass between two pieces of it.

All that runs on the device runs in this one thread: threads that each compute would bring a team of OpenMP threads
each, and more teams than cores slow every parallel loop down.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import Any, Final, Generic, TypeVar

import torch

T = TypeVar("T")


class DeviceStopped(Exception):
    """The device takes no work any more."""


#: What torch says, in words alone, of too little memory: the machine's, that of a library's handle, of a graph.
_TOO_LITTLE: Final = (
    "DefaultCPUAllocator",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUSOLVER_STATUS_ALLOC_FAILED",
    "CUDA error: out of memory",
)


def out_of_memory(error: BaseException) -> bool:
    """Whether a device or the machine had too little memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _TOO_LITTLE)


#: What CUDA says when it will take no more work of this process, whatever that is.
_UNUSABLE: Final = (
    "device-side assert",
    "illegal memory access",
    "illegal instruction",
    "misaligned address",
    "invalid program counter",
    "invalid address space",
    "hardware stack error",
    "unspecified launch failure",
    "launch timed out",
    "uncorrectable ECC error",
    "unknown error",
    "CUBLAS_STATUS_EXECUTION_FAILED",  # cuBLAS's word for whatever had failed before
)


def unusable_after(error: BaseException) -> bool:
    """Whether CUDA takes no more work of this process after an error. Torch says which it was in words alone."""
    text = str(error)
    return isinstance(error, RuntimeError) and "CUDA error" in text and any(words in text for words in _UNUSABLE)


def caused_by_work(error: BaseException) -> bool:
    """Whether the device failed over an error in what it computed, which will fail it again, and not by itself."""
    return "device-side assert" in str(error)


@dataclass(eq=False)
class _Work(Generic[T]):
    """Something to compute, and whoever waits for it; queries that are ``small`` go first."""

    compute: Callable[[], T]
    is_query: bool = False
    small: bool = False
    result: Future[T] = field(default_factory=Future)
    #: That of whoever asked: what is logged meanwhile names the same job.
    context: Context = field(default_factory=copy_context)

    def run(self) -> None:
        try:
            self.result.set_result(self.context.run(self.compute))
        except BaseException as error:  # noqa: BLE001 - whatever it is, the waiting caller must learn of it
            self.result.set_exception(error)
            del self  # this frame hangs on the error's traceback: a cycle that would keep what was computed with


class Device:
    """Computes one thing at a time, in the order in which it is asked to, but for small queries, which go ahead.

    No two in a row go ahead of what waits, so that nothing waits for ever. Safe to use from any thread. ``clock`` gives
    seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: deque[_Work[Any]] = deque()
        self._one_went_ahead = False
        self._small_ended_at = self._small_took = 0.0
        self._condition = Condition()
        self._stopped = False
        self._unusable: str | None = None
        self._busy_seconds = 0.0
        self._thread = Thread(target=self._compute_until_stopped, name="device", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def unusable(self) -> str | None:
        """The error after which the device takes no more work of this process, if there was one."""
        return self._unusable

    @property
    def busy_seconds(self) -> float:
        """How long it has computed so far."""
        return self._busy_seconds

    def run(self, compute: Callable[[], T]) -> T:
        """Compute something long, such as a step of tuning; returns or raises what ``compute`` does.

        Raises `DeviceStopped` after `stop`.
        """
        return self._submit(_Work(compute))

    def run_query(self, compute: Callable[[], T], *, small: bool) -> T:
        """The same for something that a client waits for, which passes `run`'s work; if ``small``, all other work."""
        return self._submit(_Work(compute, is_query=True, small=small))

    def let_queries_pass(self) -> None:
        """From within `run`, between two pieces of work: compute the queries that wait by now, small ones first."""
        with self._condition:
            queries = [work for work in self._waiting if work.is_query]
            self._waiting = deque(work for work in self._waiting if not work.is_query)
        for query in sorted(queries, key=lambda work: not work.small):
            query.run()

    def let_small_query_pass(self) -> None:
        """From within a query that is not small, between two pieces of it: compute a small one, if one waits.

        None while less time has gone by since the last one than that took: half of the time at most goes to small ones.
        """
        if self._clock() - self._small_ended_at < self._small_took:
            return
        with self._condition:
            small = self._first_small()
            if small is not None:
                self._waiting.remove(small)
        if small is not None:
            began = self._clock()
            small.run()
            self._small_ended_at = self._clock()
            self._small_took = self._small_ended_at - began

    def stop(self) -> None:
        """Take no more work; what waits ends with `DeviceStopped`, what is being computed is finished."""
        with self._condition:
            self._stopped = True
            refused, self._waiting = self._waiting, deque()
            self._condition.notify_all()
        for work in refused:
            work.result.set_exception(DeviceStopped())

    def _submit(self, work: _Work[T]) -> T:
        with self._condition:
            if self._stopped:
                raise DeviceStopped
            self._waiting.append(work)
            self._condition.notify_all()
        try:
            return work.result.result()
        except BaseException as error:
            if unusable_after(error):
                self._unusable = self._unusable or str(error).partition("\n")[0]
            raise
        finally:
            del work  # as in `_Work.run`

    def _compute_until_stopped(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._waiting or self._stopped)
                if self._stopped:
                    return
                work = self._next()
            began = time.monotonic()
            work.run()
            self._busy_seconds += time.monotonic() - began
            del work  # which would keep a whole job's tensors until other work comes

    def _next(self) -> _Work[Any]:
        """Takes what is to be computed next from what waits."""
        small = self._first_small()
        self._one_went_ahead = not self._one_went_ahead and small not in (None, self._waiting[0])
        if small is None or not self._one_went_ahead:
            return self._waiting.popleft()
        self._waiting.remove(small)
        return small

    def _first_small(self) -> _Work[Any] | None:
        return next((work for work in self._waiting if work.small), None)
