"""Imports: contexts of adapters that were tuned elsewhere, checked by a worker before anything is stored."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

import structlog
from pydantic import Field, model_validator
from python_multipart.multipart import parse_options_header

from app.classification.bus import Bus
from app.contexts.archives import Summary, opened
from app.contract.adapters import MAX_ADAPTER_BYTES, Imported, ImportReply, ImportRequest
from app.contract.names import ErrorCode
from app.contract.payload import Payload
from app.contract.texts import ContextName
from app.contract.tuning import Labels, Template, check_labels, names_of
from app.errors import DomainError
from app.forms import FormFile, boundary_of
from app.leftovers import removed_after
from app.records.connection import new_id
from app.records.files import open_to_read, unavailable
from app.records.idempotency import Answered
from app.records.imports import ImportedContext
from app.records.rows import StoredContext
from app.records.store import TenantRecords
from app.records.uploads import Upload

_IMPORT_SECONDS: Final = 120.0
_KINDS: Final = (b"application/zip", b"application/x-zip-compressed")


class ImportFields(Payload):
    """What a request says of an adapter besides its file.

    ``labels`` and ``template`` are PEFT's only: an export of this service has its own. ``model`` is that of the export,
    or that which PEFT's file names, unless given.
    """

    name: ContextName | None = None
    model: str | None = Field(default=None, max_length=200)
    labels: Labels | None = None
    template: Template | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.labels is not None:
            check_labels(names_of(self.labels), "/labels")
        return self


class AdapterReceiver:
    """The body of one request of this content type, written to an upload, which gets ``most_bytes`` at most.

    Blocking: `begin`, `feed` and `end` belong in a thread, one after the other. The caller discards the upload.
    """

    def __init__(self, content_type: str, upload: Upload, most_bytes: int = MAX_ADAPTER_BYTES) -> None:
        self._content_type = content_type
        self._most_bytes = most_bytes
        self._form: FormFile | None = None
        self.upload = upload

    def begin(self) -> None:
        """Take note of what will arrive. Raises `DomainError` for anything but a form or a zip file."""
        boundary = boundary_of(self._content_type)
        if boundary is not None:
            self._form = FormFile(boundary, lambda _kind, _name: None, self._take, tuple(ImportFields.model_fields))
        elif parse_options_header(self._content_type)[0] not in _KINDS:
            detail = "send the adapter as the part file of multipart/form-data, or as application/zip"
            raise DomainError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, detail)

    def feed(self, data: bytes) -> None:
        """Take what has arrived. Raises `DomainError`, `ArtifactsUnavailable` and `StoreUnavailable`."""
        if self._form is not None:
            self._form.feed(data)
        else:
            self._take(data)

    def end(self) -> dict[str, Any]:
        """The fields, those that are JSON parsed. Raises what `feed` raises."""
        fields = self._form.end() if self._form is not None else {}
        self.upload.close()
        return {name: _parsed(name, text) if name in ("labels", "template") else text for name, text in fields.items()}

    def _take(self, data: bytes) -> None:
        if self.upload.size + len(data) > self._most_bytes:
            raise DomainError(ErrorCode.BODY_TOO_LARGE, f"the file may have at most {self._most_bytes} bytes")
        self.upload.write(data)


def _parsed(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise DomainError(ErrorCode.INVALID_REQUEST, f"/{name}: must be JSON", f"/{name}") from None


@dataclass(frozen=True)
class _Adapter:
    """What a worker is to check: PEFT's if it has a ``config``."""

    name: str | None
    model: str
    config: str | None
    labels: tuple[str, ...]
    template: Template


async def import_adapter(
    bus: Bus,
    models: Collection[str],
    records: TenantRecords,
    zipped: Upload,
    fields: ImportFields,
    context_id: str,
    answered: Answered | None = None,
) -> StoredContext:
    """Create a context of the adapter in a zip file, checked by a worker of its model, one of ``models``.

    Nothing is left of what is refused. Raises `DomainError`, and what `Bus.call` and `Imports.create` raise.
    """
    async with _upload(records, context_id) as tensors, _upload(records, context_id) as artifact:
        adapter = await asyncio.to_thread(_unpacked, zipped, tensors, fields, models)
        imported = await _checked(bus, adapter, tensors, artifact)
        artifact.note_written(imported.size, imported.sha256)
        made = imported.labels, imported.tokens, imported.encoder
        context = ImportedContext(adapter.name, adapter.model, *made)
        return await asyncio.to_thread(records.imports.create, context_id, context, artifact, answered)


@asynccontextmanager
async def _upload(records: TenantRecords, owner: str) -> AsyncIterator[Upload]:
    """A file that is gone afterwards, unless a record refers to it."""
    upload = await asyncio.to_thread(records.uploads.begin, owner)
    async with removed_after(upload.discard):
        yield upload


def _unpacked(zipped: Upload, tensors: Upload, fields: ImportFields, models: Collection[str]) -> _Adapter:
    """The adapter, with its tensors in a file of their own. Raises `DomainError` and `ArtifactsUnavailable`."""
    with unavailable():
        file = open_to_read(zipped.url)
    with file, opened(file) as archive:
        if archive.summary is not None:
            adapter = _exported(archive.summary, fields)
        else:
            adapter = _from_peft(archive.config or "", fields, models)
        if adapter.model not in models:
            detail = "this service has no base model of that id; GET /models lists them, and the field model names one"
            raise DomainError(ErrorCode.MODEL_UNKNOWN, detail, "/model")
        archive.copy_tensors(tensors.write)
    tensors.close()
    return adapter


def _exported(summary: Summary, fields: ImportFields) -> _Adapter:
    for name in ("labels", "template"):
        if getattr(fields, name) is not None:
            detail = f"an export of this service has its own {name}: leave the field out"
            raise DomainError(ErrorCode.INVALID_REQUEST, detail, f"/{name}")
    return _Adapter(fields.name or summary.context.name, fields.model or summary.model, None, (), Template())


def _from_peft(config: str, fields: ImportFields, models: Collection[str]) -> _Adapter:
    if fields.labels is None:
        detail = "is required: PEFT's files do not say which labels there are"
        raise DomainError(ErrorCode.INVALID_REQUEST, f"/labels: {detail}", "/labels")
    model = fields.model or _base_of(config)
    if model is None or (fields.model is None and model not in models):
        detail = "is required: PEFT's files name no base model of this service"
        raise DomainError(ErrorCode.INVALID_REQUEST, f"/model: {detail}", "/model")
    return _Adapter(fields.name, model, config, names_of(fields.labels), fields.template or Template())


def _base_of(config: str) -> str | None:
    """The base model that PEFT's file names; whatever else is wrong with the file, a worker tells."""
    try:
        found = json.loads(config)
    except (ValueError, RecursionError):
        return None
    name = found.get("base_model_name_or_path") if isinstance(found, dict) else None
    return name if isinstance(name, str) else None


async def _checked(bus: Bus, adapter: _Adapter, tensors: Upload, artifact: Upload) -> Imported:
    """What a worker made of an adapter. Raises `DomainError` and what `Bus.call` raises."""
    await asyncio.to_thread(artifact.close)
    request = ImportRequest(
        id=new_id("imp"),
        reply_to=bus.reply_channel,
        model=adapter.model,
        tensors=tensors.address,
        target=artifact.address,
        config=adapter.config,
        labels=adapter.labels,
        template=adapter.template,
        request_id=structlog.contextvars.get_contextvars().get("request_id"),
    )
    reply = ImportReply.model_validate_json(await bus.call(request, _IMPORT_SECONDS))
    if reply.failure is not None:
        raise DomainError.from_failure(reply.failure)
    if reply.imported is None:
        raise DomainError(ErrorCode.INTERNAL, "a worker answered without a result")
    return reply.imported
