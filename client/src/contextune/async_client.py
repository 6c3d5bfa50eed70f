"""The asynchronous client: as `contextune.client`, with awaiting."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2

from contextune.async_connection import AsyncConnection
from contextune.async_handles import AsyncBatchHandle, AsyncContextHandle, AsyncJobHandle, AsyncTuning
from contextune.bound import AsyncRoutes, async_handled, async_handled_listing, async_listing, async_method
from contextune.calls import access, batches, classification, contexts, jobs, service
from contextune.models.batches import BatchError, BatchResult
from contextune.models.classification import Classification
from contextune.models.contexts import Context
from contextune.models.jobs import Event
from contextune.options import Options
from contextune.protocol import streams
from contextune.protocol.retry import RetryPolicy


class AsyncContexts(AsyncRoutes):
    """What is classified with."""

    create = async_handled(contexts.create, AsyncTuning.of)
    dry_run = async_method(contexts.dry_run)
    get = async_handled(contexts.get, AsyncContextHandle.of)
    list = async_handled_listing(contexts.page, AsyncContextHandle.of)
    examples = async_listing(contexts.examples_page)
    update = async_handled(contexts.update, AsyncContextHandle.of)
    delete = async_method(contexts.delete)
    import_ = async_handled(contexts.import_, AsyncTuning.of)

    async def export(self, ref: str, path: str | Path, *, embeddings: bool = False) -> int:
        """Write the adapter of a context to a file, a zip (or its ``embeddings``, safetensors); return its bytes.

        Tries again until its first byte has come. Raises ``ProblemError`` or ``ServiceUnreachableError``.
        """
        return await self._connection.download(contexts.export(ref, embeddings=embeddings), Path(path))


class AsyncAliases(AsyncRoutes):
    """Words that point at versions of contexts."""

    get = async_method(contexts.get_alias)
    set = async_method(contexts.set_alias)
    delete = async_method(contexts.delete_alias)


class AsyncJobs(AsyncRoutes):
    """Durable pieces of work."""

    get = async_handled(jobs.get, AsyncJobHandle.of)
    list = async_handled_listing(jobs.page, AsyncJobHandle.of)
    cancel = async_handled(jobs.cancel, AsyncJobHandle.of)
    delete = async_method(jobs.delete)
    list_events = async_listing(jobs.events_page)

    def events(self, job_id: str, *, after: str | None = None) -> AsyncIterator[Event]:
        """The events of a job, oldest first, as they happen, until it has ended.

        Goes on through restarts of the service. Raises ``NotFoundError`` for a job that is not there, and
        ``ServiceUnreachableError`` or ``ServiceError`` once the service has been away for too long.
        """
        return self._connection.events(streams.EventFeed(job_id, time.monotonic, after))


class AsyncBatches(AsyncRoutes):
    """Many texts in a file, answered by one job."""

    create = async_handled(batches.create, AsyncBatchHandle.of)
    get = async_handled(batches.get, AsyncBatchHandle.of)
    list = async_handled_listing(batches.page, AsyncBatchHandle.of)

    def results(self, batch_id: str, *, after: int | None = None) -> AsyncIterator[BatchResult]:
        """The results that are there, in the order of the lines, after the one with that index."""
        return self._connection.lines(streams.results(batch_id, time.monotonic, after))

    def errors(self, batch_id: str, *, after: int | None = None) -> AsyncIterator[BatchError]:
        """The lines that could not be answered, and why."""
        return self._connection.lines(streams.errors(batch_id, time.monotonic, after))


class AsyncKeys(AsyncRoutes):
    """What clients show."""

    create = async_method(access.create_key)
    list = async_listing(access.keys_page)
    delete = async_method(access.delete_key)


class AsyncTenants(AsyncRoutes):
    """Whose records are whose."""

    get = async_method(access.get_tenant)
    list = async_listing(access.tenants_page)
    update = async_method(access.update_tenant)
    delete = async_method(access.delete_tenant)


class AsyncWebhooks(AsyncRoutes):
    """Where events are sent."""

    create = async_method(access.create_webhook)
    list = async_listing(access.webhooks)
    delete = async_method(access.delete_webhook)


class AsyncModels(AsyncRoutes):
    """What ``model`` may be."""

    list = async_listing(service.models)
    get = async_method(service.get_model)


class AsyncContextune(AsyncRoutes):
    """An asynchronous client of one service; it may be used by many tasks at once.

    ``url`` and ``key`` are those of ``CONTEXTUNE_URL`` (else a service on this machine) and ``CONTEXTUNE_API_KEY``
    unless given. ``timeout`` is how long the answer to an ordinary request may take (seconds). Methods raise
    `contextune.errors`. Use it in an ``async with`` block, or ``close`` it.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float | None = None,
        retries: RetryPolicy | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(AsyncConnection(Options.of(url, key, timeout, retries), transport))
        self.contexts = AsyncContexts(self._connection)
        self.aliases = AsyncAliases(self._connection)
        self.jobs = AsyncJobs(self._connection)
        self.batches = AsyncBatches(self._connection)
        self.keys = AsyncKeys(self._connection)
        self.tenants = AsyncTenants(self._connection)
        self.webhooks = AsyncWebhooks(self._connection)
        self.models = AsyncModels(self._connection)

    classify = async_method(classification.classify)
    usage = async_method(access.usage)
    audit = async_listing(access.audit_page)
    ready = async_method(service.ready)
    live = async_method(service.live)
    release = async_method(service.release)

    async def classify_many(
        self, context: str | Context | None, texts: Iterable[str], **options: Any
    ) -> AsyncIterator[Classification]:
        """Classify any number of texts, some hundred a request, in order; ``options`` are those of `classify`."""
        done = 0
        for inputs in classification.requests_of(texts):
            for one in await self.classify(context, inputs, **options):
                yield one.model_copy(update={"index": done + one.index})
            done += len(inputs)

    @property
    def url(self) -> str:
        """Where the service is."""
        return self._connection.options.url

    async def close(self) -> None:
        """Close the connections."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncContextune({self.url!r})"
