"""Contexts of adapters that were tuned elsewhere: they answer at once, and have neither job, examples nor report."""

from __future__ import annotations

import json
from dataclasses import dataclass

from app.records.connection import Store, StoreUnavailable
from app.records.contexts import Contexts, QuotaReached, TenantGone
from app.records.idempotency import Answered, ClaimLost
from app.records.rows import FORMAT, StoredContext, labels_field, metadata_field
from app.records.uploads import Upload


@dataclass(frozen=True)
class ImportedContext:
    """A context to be created. ``tokens`` are those of all its prompts."""

    name: str | None
    model: str
    labels: tuple[str, ...]
    tokens: int
    encoder: str | None = None


class Imports:
    """The imports of a tenant. Every method raises `StoreUnavailable`."""

    def __init__(self, store: Store, tenant: str, contexts: Contexts) -> None:
        self._store = store
        self._tenant = tenant
        self._contexts = contexts

    def create(
        self, context_id: str, context: ImportedContext, artifact: Upload, answered: Answered | None = None
    ) -> StoredContext:
        """Create a context of an ``artifact`` that was uploaded for this id. The caller discards it if this fails.

        ``answered`` is kept under its idempotency key by the same script. Raises `QuotaReached`, `TenantGone`,
        `ClaimLost` and `ArtifactsUnavailable`.
        """
        address = artifact.keep()
        fields = json.dumps(_fields(context, artifact.size))
        claim = answered.as_json() if answered else "null"
        outcome = self._store.run("import_context", self._tenant, context_id, address, fields, claim)
        refusals = {"lost": ClaimLost, "gone": TenantGone}
        if outcome in refusals:
            raise refusals[outcome]
        if outcome != "created":
            raise QuotaReached(outcome)
        stored = self._contexts.get(context_id)
        if stored is None:
            raise StoreUnavailable("the context was deleted as it was created")
        return stored


def _fields(context: ImportedContext, size: int) -> dict[str, str | int]:
    return {
        "format": FORMAT,
        "name": context.name or "",
        "model": context.model,
        "encoder": context.encoder or "",
        "labels": labels_field(context.labels),
        "tokens": context.tokens,
        "metadata": metadata_field({}),
        "hyperparameters": "",
        "bytes": size,
    }
