"""What the asynchronous client returns of contexts, jobs and batches: as `contextune.handles`, with awaiting."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import PrivateAttr

from contextune.async_connection import AsyncConnection
from contextune.calls import batches, classification, contexts, jobs
from contextune.calls.classification import Truncate
from contextune.models.answered import Answered
from contextune.models.batches import Batch, BatchError, BatchResult
from contextune.models.classification import Answer
from contextune.models.contexts import Alias, Context, CreatedContext, Example
from contextune.models.jobs import Event, Job
from contextune.protocol import streams
from contextune.protocol.conversation import wait_for_end
from contextune.protocol.paging import Paging


class _Handle(Answered):
    _connection: AsyncConnection = PrivateAttr()

    @classmethod
    def of(cls, answered: Answered, connection: AsyncConnection) -> Self:
        """The service's answer as a handle."""
        handle = cls.model_construct(answered.model_fields_set, **answered.__dict__)
        handle._connection = connection
        return handle


class AsyncContextHandle(_Handle, Context):
    """A context that can classify."""

    async def classify(
        self,
        inputs: str | Sequence[str],
        *,
        truncate: Truncate | None = None,
        min_confidence: float | None = None,
        top_k: int | None = None,
        exact: bool | None = None,
        batch_calibration: bool | None = None,
    ) -> Answer:
        """Classify texts, 1,024 at most; see ``Contextune.classify``."""
        call = classification.classify(
            self.id,
            inputs,
            truncate=truncate,
            min_confidence=min_confidence,
            top_k=top_k,
            exact=exact,
            batch_calibration=batch_calibration,
        )
        return await self._connection.send(call)

    async def refresh(self) -> AsyncContextHandle:
        """The context as it is now."""
        return AsyncContextHandle.of(await self._connection.send(contexts.get(self.id)), self._connection)

    def examples(self) -> AsyncIterator[Example]:
        """Its examples."""
        return self._connection.iterate(Paging(contexts.examples_page(self.id)))

    async def set_alias(self, alias: str, **conditions: Any) -> Alias:
        """Point an alias at this version."""
        return await self._connection.send(contexts.set_alias(self.name or self.id, alias, self.version, **conditions))

    async def export(self, path: str | Path, *, embeddings: bool = False) -> int:
        """Write its adapter to a file; return its bytes.

        Tries again until its first byte has come. Raises ``ProblemError`` or ``ServiceUnreachableError``.
        """
        return await self._connection.download(contexts.export(self.id, embeddings=embeddings), Path(path))

    async def delete(self) -> None:
        """Delete it for good."""
        await self._connection.send(contexts.delete(self.id))


class AsyncJobHandle(_Handle, Job):
    """A job that can be waited for."""

    async def wait(
        self, timeout: float | None = None, *, on_progress: Callable[[Job], None] | None = None
    ) -> AsyncJobHandle:
        """Return once the job has succeeded; ``on_progress`` is told of it every second until then.

        Waiting goes on through restarts of the service. Raises ``JobFailedError``, ``JobCancelledError``, or
        ``RequestTimeoutError`` after ``timeout`` seconds, whether the service answers or not.
        """

        def look(seconds: float) -> Any:
            return jobs.get(self.id, wait=seconds)

        ended: Job = await self._connection.hold(wait_for_end(look, time.monotonic, timeout, on_progress))
        return AsyncJobHandle.of(ended, self._connection)

    def events(self, *, after: str | None = None) -> AsyncIterator[Event]:
        """Its events, oldest first, as they happen, until it has ended.

        Goes on through restarts of the service. Raises ``NotFoundError`` once the job is deleted, and
        ``ServiceUnreachableError`` or ``ServiceError`` once the service has been away for too long.
        """
        return self._connection.events(streams.EventFeed(self.id, time.monotonic, after))

    async def refresh(self) -> AsyncJobHandle:
        """The job as it is now."""
        return AsyncJobHandle.of(await self._connection.send(jobs.get(self.id)), self._connection)

    async def cancel(self) -> AsyncJobHandle:
        """Cancel it: at once while it is queued, within a step while it runs."""
        return AsyncJobHandle.of(await self._connection.send(jobs.cancel(self.id)), self._connection)

    async def delete(self) -> None:
        """Delete the record of a job that has ended."""
        await self._connection.send(jobs.delete(self.id))


class AsyncBatchHandle(_Handle, Batch):
    """A batch that can be waited for and read."""

    async def wait(
        self, timeout: float | None = None, *, on_progress: Callable[[Batch], None] | None = None
    ) -> AsyncBatchHandle:
        """Return once the batch has succeeded; see ``AsyncJobHandle.wait``."""

        def look(seconds: float) -> Any:
            return batches.wait(self.id, seconds)

        ended: Batch = await self._connection.hold(wait_for_end(look, time.monotonic, timeout, on_progress))
        return AsyncBatchHandle.of(ended, self._connection)

    def results(self, *, after: int | None = None) -> AsyncIterator[BatchResult]:
        """The results that are there, in the order of the lines, after the one with that index."""
        return self._connection.lines(streams.results(self.id, time.monotonic, after))

    def errors(self, *, after: int | None = None) -> AsyncIterator[BatchError]:
        """The lines that could not be answered, and why."""
        return self._connection.lines(streams.errors(self.id, time.monotonic, after))

    async def refresh(self) -> AsyncBatchHandle:
        """The batch as it is now."""
        return AsyncBatchHandle.of(await self._connection.send(batches.get(self.id)), self._connection)

    async def cancel(self) -> None:
        """Cancel it; what is answered stays."""
        await self._connection.send(jobs.cancel(self.id))

    async def delete(self) -> None:
        """Delete it and its files."""
        await self._connection.send(jobs.delete(self.id))


class AsyncTuning:
    """A context that was accepted and the job that tunes it; an imported context has no ``job``."""

    def __init__(self, context: AsyncContextHandle, job: AsyncJobHandle | None) -> None:
        self.context = context
        self.job = job

    @classmethod
    def of(cls, created: CreatedContext, connection: AsyncConnection) -> Self:
        """The service's answer as a handle."""
        job = AsyncJobHandle.of(created.job, connection) if created.job else None
        return cls(AsyncContextHandle.of(created.context, connection), job)

    async def wait(
        self, timeout: float | None = None, *, on_progress: Callable[[Job], None] | None = None
    ) -> AsyncContextHandle:
        """Return the context once it can answer; see ``AsyncJobHandle.wait``."""
        if self.job is not None:
            await self.job.wait(timeout, on_progress=on_progress)
        return await self.context.refresh()

    def __repr__(self) -> str:
        return f"AsyncTuning({self.context.id}, job={self.job.id if self.job else None})"
