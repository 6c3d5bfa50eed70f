"""Exports: a context's adapter as a file that a worker writes when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import structlog

from app.classification.bus import Bus
from app.contract.adapters import ExportReply, ExportRequest
from app.contract.objects import Context
from app.errors import DomainError
from app.records.connection import new_id
from app.records.files import open_to_read, unavailable
from app.records.uploads import Upload

_EXPORT_SECONDS: Final = 120.0
_PIECE_BYTES: Final = 256 * 1024

Form = Literal["adapter", "embeddings"]


@dataclass(frozen=True)
class Export:
    """A file of ``size`` bytes that is removed once it was read; one that nobody reads, a sweep removes."""

    name: str
    size: int
    file: Upload

    def pieces(self) -> Iterator[bytes]:
        """What it holds. Raises `ArtifactsUnavailable`."""
        try:
            with unavailable(), open_to_read(self.file.url) as content:
                while piece := content.read(_PIECE_BYTES):
                    yield piece
        finally:
            self.file.discard()


async def export(bus: Bus, file: Upload, context: Context, artifact: str, form: Form) -> Export:
    """Let a worker write the artifact of a context into an upload, which is empty so far.

    Raises `DomainError`, and what `Bus.call` raises.
    """
    file.close()
    request = ExportRequest(
        id=new_id("exp"),
        reply_to=bus.reply_channel,
        model=context.model,
        artifact=artifact,
        form=form,
        target=file.address,
        context={"id": context.id, "name": context.name, "version": context.version, "model": context.model},
        request_id=structlog.contextvars.get_contextvars().get("request_id"),
    )
    reply = ExportReply.model_validate_json(await bus.call(request, _EXPORT_SECONDS))
    if reply.failure is not None:
        raise DomainError.from_failure(reply.failure)
    name = f"{context.name}-{context.version}" if context.name else context.id
    return Export(f"{name}.{'zip' if form == 'adapter' else 'safetensors'}", reply.size, file)
