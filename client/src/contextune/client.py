"""The client: ``Contextune().contexts.create("intents.csv").wait().classify("my card got lost")``."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2

from contextune.bound import Routes, handled, handled_listing, listing, method
from contextune.calls import access, batches, classification, contexts, jobs, service
from contextune.connection import Connection
from contextune.handles import BatchHandle, ContextHandle, JobHandle, Tuning
from contextune.models.batches import BatchError, BatchResult
from contextune.models.classification import Classification
from contextune.models.contexts import Context
from contextune.models.jobs import Event
from contextune.options import Options
from contextune.protocol import streams
from contextune.protocol.retry import RetryPolicy


class Contexts(Routes):
    """What is classified with."""

    create = handled(contexts.create, Tuning.of)
    dry_run = method(contexts.dry_run)
    get = handled(contexts.get, ContextHandle.of)
    list = handled_listing(contexts.page, ContextHandle.of)
    examples = listing(contexts.examples_page)
    update = handled(contexts.update, ContextHandle.of)
    delete = method(contexts.delete)
    import_ = handled(contexts.import_, Tuning.of)

    def export(self, ref: str, path: str | Path, *, embeddings: bool = False) -> int:
        """Write the adapter of a context to a file, a zip (or its ``embeddings``, safetensors); return its bytes.

        Tries again until its first byte has come. Raises ``ProblemError`` or ``ServiceUnreachableError``.
        """
        return self._connection.download(contexts.export(ref, embeddings=embeddings), Path(path))


class Aliases(Routes):
    """Words that point at versions of contexts."""

    get = method(contexts.get_alias)
    set = method(contexts.set_alias)
    delete = method(contexts.delete_alias)


class Jobs(Routes):
    """Durable pieces of work."""

    get = handled(jobs.get, JobHandle.of)
    list = handled_listing(jobs.page, JobHandle.of)
    cancel = handled(jobs.cancel, JobHandle.of)
    delete = method(jobs.delete)
    list_events = listing(jobs.events_page)

    def events(self, job_id: str, *, after: str | None = None) -> Iterator[Event]:
        """The events of a job, oldest first, as they happen, until it has ended.

        Goes on through restarts of the service. Raises ``NotFoundError`` for a job that is not there, and
        ``ServiceUnreachableError`` or ``ServiceError`` once the service has been away for too long.
        """
        return self._connection.events(streams.EventFeed(job_id, time.monotonic, after))


class Batches(Routes):
    """Many texts in a file, answered by one job."""

    create = handled(batches.create, BatchHandle.of)
    get = handled(batches.get, BatchHandle.of)
    list = handled_listing(batches.page, BatchHandle.of)

    def results(self, batch_id: str, *, after: int | None = None) -> Iterator[BatchResult]:
        """The results that are there, in the order of the lines, after the one with that index."""
        return self._connection.lines(streams.results(batch_id, time.monotonic, after))

    def errors(self, batch_id: str, *, after: int | None = None) -> Iterator[BatchError]:
        """The lines that could not be answered, and why."""
        return self._connection.lines(streams.errors(batch_id, time.monotonic, after))


class Keys(Routes):
    """What clients show."""

    create = method(access.create_key)
    list = listing(access.keys_page)
    delete = method(access.delete_key)


class Tenants(Routes):
    """Whose records are whose."""

    get = method(access.get_tenant)
    list = listing(access.tenants_page)
    update = method(access.update_tenant)
    delete = method(access.delete_tenant)


class Webhooks(Routes):
    """Where events are sent."""

    create = method(access.create_webhook)
    list = listing(access.webhooks)
    delete = method(access.delete_webhook)


class Models(Routes):
    """What ``model`` may be."""

    list = listing(service.models)
    get = method(service.get_model)


class Contextune(Routes):
    """A client of one service; it may be used by several threads at once.

    ``url`` and ``key`` are those of ``CONTEXTUNE_URL`` (else a service on this machine) and ``CONTEXTUNE_API_KEY``
    unless given. ``timeout`` is how long the answer to an ordinary request may take (seconds). Methods raise
    `contextune.errors`. Use it in a ``with`` block, or ``close`` it.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float | None = None,
        retries: RetryPolicy | None = None,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        super().__init__(Connection(Options.of(url, key, timeout, retries), transport))
        self.contexts = Contexts(self._connection)
        self.aliases = Aliases(self._connection)
        self.jobs = Jobs(self._connection)
        self.batches = Batches(self._connection)
        self.keys = Keys(self._connection)
        self.tenants = Tenants(self._connection)
        self.webhooks = Webhooks(self._connection)
        self.models = Models(self._connection)

    classify = method(classification.classify)
    usage = method(access.usage)
    audit = listing(access.audit_page)
    ready = method(service.ready)
    live = method(service.live)
    release = method(service.release)

    def classify_many(
        self, context: str | Context | None, texts: Iterable[str], **options: Any
    ) -> Iterator[Classification]:
        """Classify any number of texts, some hundred a request, in order; ``options`` are those of `classify`."""
        done = 0
        for inputs in classification.requests_of(texts):
            for one in self.classify(context, inputs, **options):
                yield one.model_copy(update={"index": done + one.index})
            done += len(inputs)

    @property
    def url(self) -> str:
        """Where the service is."""
        return self._connection.options.url

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Contextune({self.url!r})"
