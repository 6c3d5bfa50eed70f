"""What a client returns of contexts, jobs and batches: the service's answer, with methods that go on from there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import PrivateAttr

from contextune.calls import batches, classification, contexts, jobs
from contextune.calls.classification import Truncate
from contextune.connection import Connection
from contextune.models.answered import Answered
from contextune.models.batches import Batch, BatchError, BatchResult
from contextune.models.classification import Answer
from contextune.models.contexts import Alias, Context, CreatedContext, Example
from contextune.models.jobs import Event, Job
from contextune.protocol import streams
from contextune.protocol.conversation import wait_for_end
from contextune.protocol.paging import Paging


class _Handle(Answered):
    _connection: Connection = PrivateAttr()

    @classmethod
    def of(cls, answered: Answered, connection: Connection) -> Self:
        """The service's answer as a handle."""
        handle = cls.model_construct(answered.model_fields_set, **answered.__dict__)
        handle._connection = connection
        return handle


class ContextHandle(_Handle, Context):
    """A context that can classify."""

    def classify(
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
        return self._connection.send(call)

    def refresh(self) -> ContextHandle:
        """The context as it is now."""
        return ContextHandle.of(self._connection.send(contexts.get(self.id)), self._connection)

    def examples(self) -> Iterator[Example]:
        """Its examples."""
        return self._connection.iterate(Paging(contexts.examples_page(self.id)))

    def set_alias(self, alias: str, **conditions: Any) -> Alias:
        """Point an alias at this version."""
        return self._connection.send(contexts.set_alias(self.name or self.id, alias, self.version, **conditions))

    def export(self, path: str | Path, *, embeddings: bool = False) -> int:
        """Write its adapter to a file; return its bytes.

        Tries again until its first byte has come. Raises ``ProblemError`` or ``ServiceUnreachableError``.
        """
        return self._connection.download(contexts.export(self.id, embeddings=embeddings), Path(path))

    def delete(self) -> None:
        """Delete it for good."""
        self._connection.send(contexts.delete(self.id))


class JobHandle(_Handle, Job):
    """A job that can be waited for."""

    def wait(self, timeout: float | None = None, *, on_progress: Callable[[Job], None] | None = None) -> JobHandle:
        """Return once the job has succeeded; ``on_progress`` is told of it every second until then.

        Waiting goes on through restarts of the service. Raises ``JobFailedError``, ``JobCancelledError``, or
        ``RequestTimeoutError`` after ``timeout`` seconds, whether the service answers or not.
        """

        def look(seconds: float) -> Any:
            return jobs.get(self.id, wait=seconds)

        ended: Job = self._connection.hold(wait_for_end(look, time.monotonic, timeout, on_progress))
        return JobHandle.of(ended, self._connection)

    def events(self, *, after: str | None = None) -> Iterator[Event]:
        """Its events, oldest first, as they happen, until it has ended.

        Goes on through restarts of the service. Raises ``NotFoundError`` once the job is deleted, and
        ``ServiceUnreachableError`` or ``ServiceError`` once the service has been away for too long.
        """
        return self._connection.events(streams.EventFeed(self.id, time.monotonic, after))

    def refresh(self) -> JobHandle:
        """The job as it is now."""
        return JobHandle.of(self._connection.send(jobs.get(self.id)), self._connection)

    def cancel(self) -> JobHandle:
        """Cancel it: at once while it is queued, within a step while it runs."""
        return JobHandle.of(self._connection.send(jobs.cancel(self.id)), self._connection)

    def delete(self) -> None:
        """Delete the record of a job that has ended."""
        self._connection.send(jobs.delete(self.id))


class BatchHandle(_Handle, Batch):
    """A batch that can be waited for and read."""

    def wait(self, timeout: float | None = None, *, on_progress: Callable[[Batch], None] | None = None) -> BatchHandle:
        """Return once the batch has succeeded; see ``JobHandle.wait``."""

        def look(seconds: float) -> Any:
            return batches.wait(self.id, seconds)

        ended: Batch = self._connection.hold(wait_for_end(look, time.monotonic, timeout, on_progress))
        return BatchHandle.of(ended, self._connection)

    def results(self, *, after: int | None = None) -> Iterator[BatchResult]:
        """The results that are there, in the order of the lines, after the one with that index."""
        return self._connection.lines(streams.results(self.id, time.monotonic, after))

    def errors(self, *, after: int | None = None) -> Iterator[BatchError]:
        """The lines that could not be answered, and why."""
        return self._connection.lines(streams.errors(self.id, time.monotonic, after))

    def refresh(self) -> BatchHandle:
        """The batch as it is now."""
        return BatchHandle.of(self._connection.send(batches.get(self.id)), self._connection)

    def cancel(self) -> None:
        """Cancel it; what is answered stays."""
        self._connection.send(jobs.cancel(self.id))

    def delete(self) -> None:
        """Delete it and its files."""
        self._connection.send(jobs.delete(self.id))


class Tuning:
    """A context that was accepted and the job that tunes it; an imported context has no ``job``."""

    def __init__(self, context: ContextHandle, job: JobHandle | None) -> None:
        self.context = context
        self.job = job

    @classmethod
    def of(cls, created: CreatedContext, connection: Connection) -> Self:
        """The service's answer as a handle."""
        job = JobHandle.of(created.job, connection) if created.job else None
        return cls(ContextHandle.of(created.context, connection), job)

    def wait(self, timeout: float | None = None, *, on_progress: Callable[[Job], None] | None = None) -> ContextHandle:
        """Return the context once it can answer; see ``JobHandle.wait``."""
        if self.job is not None:
            self.job.wait(timeout, on_progress=on_progress)
        return self.context.refresh()

    def __repr__(self) -> str:
        return f"Tuning({self.context.id}, job={self.job.id if self.job else None})"
