"""Adapters: what a context has learned, as files for PEFT and for engines that take prompt embeddings."""

from __future__ import annotations

import json
import zipfile
from typing import IO, Any, Final, cast

import safetensors.torch
import structlog

from app.contract.adapters import ExportReply, ExportRequest
from app.contract.messages import Failure
from app.contract.names import ErrorCode
from app.records.connection import StoreUnavailable
from app.records.files import ArtifactsUnavailable, open_to_write, unavailable
from app.records.store import Records
from worker.artifacts import ArtifactCorrupt, Artifacts
from worker.cpt.formats import peft
from worker.cpt.formats.bundle import NewerFormat, TunedContext, load
from worker.models import LanguageModel

OURS: Final = "contextune.safetensors"
SUMMARY: Final = "contextune.json"
#: A fixed time in the zip: the same context is the same file.
_TIME: Final = (2026, 1, 1, 0, 0, 0)
_NOT_IN_PEFT: Final = {
    "one_prompt": "the label scores of one prompt, with no bias: PEFT loads one prompt at a time",
    "several_prompts": "averages over prompts, heads, mixture, calibration and the shortlist",
}


class AnotherModel(ValueError):
    """The context was tuned for other files than those of the base model here."""


def exported(base: LanguageModel, artifacts: Artifacts, records: Records, request: ExportRequest) -> ExportReply:
    """Write the export that is asked for; what went wrong is in the reply."""
    try:
        with records.written_for(request.id, request.target):
            return ExportReply(id=request.id, size=_export(base, artifacts, request))
    except Exception as error:  # noqa: BLE001 - whatever it is, the waiting caller must learn of it
        return ExportReply(id=request.id, failure=_failure(error, request))


def _failure(error: Exception, request: ExportRequest) -> Failure:
    match error:
        case FileNotFoundError():
            return Failure(code=ErrorCode.CONTEXT_NOT_FOUND, message="the context has been deleted")
        case AnotherModel():
            return Failure(code=ErrorCode.MODEL_CHANGED, message=str(error))
        case StoreUnavailable():
            return Failure(code=ErrorCode.STORE_UNAVAILABLE, message="the store does not answer the worker")
        case ArtifactsUnavailable():
            return Failure(code=ErrorCode.ARTIFACTS_UNAVAILABLE, message="the worker cannot write the export")
        case ArtifactCorrupt() | ValueError():
            code = ErrorCode.FORMAT_UNSUPPORTED if isinstance(error, NewerFormat) else ErrorCode.ARTIFACT_CORRUPT
            return Failure(code=code, message=f"the context's artifact cannot be used: {error}")
    structlog.get_logger().error("export_failed", request_id=request.request_id, exc_info=error)
    return Failure(code=ErrorCode.INTERNAL, message="an unexpected error in the worker")


def _export(base: LanguageModel, artifacts: Artifacts, request: ExportRequest) -> int:
    """Write the export; its bytes. Raises FileNotFoundError, `AnotherModel`, ValueError and `ArtifactsUnavailable`."""
    content = artifacts.get(request.artifact)
    tuned = load(content)
    if tuned.metadata.get("model_sha256") != base.fingerprint:
        raise AnotherModel(f"the context was tuned for other weights than those that {base.id} has now; retune it")
    with unavailable(), open_to_write(artifacts.url(request.target)) as file:
        counted = _Counted(file)
        if request.form == "embeddings":
            counted.write(_embeddings(tuned))
        else:
            _write_zip(counted, base, tuned, content, request)
        return counted.size


class _Counted:
    """A file that is written from its beginning to its end, and how much of it was."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size = 0

    def write(self, piece: bytes) -> int:
        """Append."""
        self._file.write(piece)
        self.size += len(piece)
        return len(piece)

    def flush(self) -> None:
        """Nothing is held back."""


def _embeddings(tuned: TunedContext) -> bytes:
    prompts = {f"prompt.{number}": prompt.embeds.contiguous() for number, prompt in enumerate(tuned.prompts)}
    return safetensors.torch.save(prompts)


def _write_zip(
    file: _Counted, base: LanguageModel, tuned: TunedContext, content: bytes, request: ExportRequest
) -> None:
    with zipfile.ZipFile(cast("IO[bytes]", file), "w", zipfile.ZIP_STORED) as archive:
        for number, prompt in enumerate(tuned.prompts):
            for name, held in peft.write(prompt, base.id).items():
                archive.writestr(zipfile.ZipInfo(f"prompt-{number}/{name}", _TIME), held)
        archive.writestr(zipfile.ZipInfo(SUMMARY, _TIME), _summary(tuned, request))
        archive.writestr(zipfile.ZipInfo(OURS, _TIME), content)


def _summary(tuned: TunedContext, request: ExportRequest) -> bytes:
    what: dict[str, Any] = {
        **tuned.metadata,
        "format": 1,
        "context": request.context,
        "prompts": len(tuned.prompts),
        "sha256": request.artifact,
        "not_applied_by_peft": _NOT_IN_PEFT["several_prompts" if tuned.classifier else "one_prompt"],
    }
    return json.dumps(what, ensure_ascii=False, indent=2, sort_keys=True, allow_nan=False).encode() + b"\n"
