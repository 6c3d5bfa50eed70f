"""Adapters that come from elsewhere: checked, and written as the artifact of a context.

Trusts nothing that a file says: what is written has answered a query here.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated, Final, Self

import structlog
from pydantic import BaseModel, Field, ValidationError, model_validator

from app.contract.adapters import Imported, ImportReply, ImportRequest
from app.contract.messages import Failure
from app.contract.names import ErrorCode
from app.contract.texts import Characters, Label
from app.contract.tuning import Template, check_labels
from app.records.connection import StoreUnavailable
from app.records.files import ArtifactsUnavailable, DiskFull, open_to_write, read_file, unavailable
from app.records.store import Records
from worker.artifacts import Artifacts, address_of
from worker.classification.preparing import fits_encoder, loaded, made_here, resident
from worker.classification.resident import CannotClassify
from worker.cpt.encoding.context import encode_labels, encode_query
from worker.cpt.encoding.template import Template as ModelTemplate
from worker.cpt.formats import peft
from worker.cpt.formats.bundle import TunedContext, save
from worker.cpt.model.base_model import word_embeddings
from worker.cpt.scoring.trie import MAX_LABEL_TOKENS, LabelTrie
from worker.device import Device, out_of_memory
from worker.models import LanguageModel

#: A text that is classified to see whether an adapter answers.
_TEXT: Final = "a"
#: Prompts of an adapter: each takes memory, and the few that method "auto" averages are fewer.
_PROMPTS: Final = 8

_Name = Annotated[Characters, Field(max_length=1_000)]
_Token = Annotated[int, Field(strict=True, ge=0)]
_Tokens = Annotated[tuple[_Token, ...], Field(min_length=1)]


class _ExportMetadata(BaseModel):
    """What an artifact says of itself: nothing else of it is kept."""

    context_id: _Name | None = None
    model: _Name | None = None
    model_sha256: _Name
    labels: tuple[Label, ...]
    label_ids: tuple[_Tokens, ...]
    template: Template
    encoder: _Name | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_labels(self.labels, "/file")
        if len(self.label_ids) != len(self.labels):
            raise ValueError("each label has its tokens")
        return self


def imported(
    base: LanguageModel, device: Device, artifacts: Artifacts, records: Records, request: ImportRequest
) -> ImportReply:
    """Check the adapter and write its artifact; what is wrong with it is in the reply."""
    try:
        with records.written_for(request.id, request.target):
            tensors = read_file(artifacts.url(request.tensors))
            tuned, content = device.run_query(partial(_checked, base, tensors, request), small=True)
            reply = ImportReply(id=request.id, imported=_imported(tuned, content))
            with unavailable(), open_to_write(artifacts.url(request.target)) as file:
                file.write(content)
            return reply
    except Exception as error:  # noqa: BLE001 - whatever it is, the waiting caller must learn of it
        return ImportReply(id=request.id, failure=_failure(error, request))


def _imported(tuned: TunedContext, content: bytes) -> Imported:
    return Imported(
        size=len(content),
        sha256=address_of(content),
        labels=tuple(tuned.metadata["labels"]),
        tokens=sum(len(prompt.tokens) for prompt in tuned.prompts),
        encoder=tuned.metadata.get("encoder"),
    )


def _failure(error: Exception, request: ImportRequest) -> Failure:
    match error:
        case CannotClassify():
            return error.failure
        case StoreUnavailable():
            return Failure(code=ErrorCode.STORE_UNAVAILABLE, message="the store does not answer the worker")
        case DiskFull():
            return Failure(code=ErrorCode.DISK_FULL, message="there is no room on disk for the artifact")
        case OSError() | ArtifactsUnavailable():
            message = "the worker cannot read or write the files; gateway and workers must share their artifacts"
            return Failure(code=ErrorCode.ARTIFACTS_UNAVAILABLE, message=message)
        case _ if out_of_memory(error):
            return Failure(code=ErrorCode.OUT_OF_MEMORY, message="the worker has not enough memory")
    structlog.get_logger().error("import_failed", request_id=request.request_id, exc_info=error)
    return Failure(code=ErrorCode.INTERNAL, message="an unexpected error in the worker")


def _checked(base: LanguageModel, tensors: bytes, request: ImportRequest) -> tuple[TunedContext, bytes]:
    """The adapter and its artifact, once it has answered. To be called on the device. Raises `CannotClassify`."""
    if request.config is None:
        tuned = _exported(base, tensors)
    else:
        tuned = _from_peft(base, request.config, tensors, request)
    _check_size(base, tuned)
    if not made_here(base, tuned):
        raise CannotClassify(
            ErrorCode.MODEL_CHANGED,
            f"the adapter was tuned for other files than those that {base.id}, or its sentence encoder, has here",
            "/file",
        )
    _check_answer(base, tuned)
    return tuned, save(tuned)


def _exported(base: LanguageModel, content: bytes) -> TunedContext:
    """An export of this service. Raises `CannotClassify`."""
    try:
        tuned = loaded(base, content)
        said = _ExportMetadata.model_validate(tuned.metadata)
    except ValidationError as error:
        raise _invalid("what it says of itself, its labels or its template cannot be") from error
    except ValueError as error:
        raise _invalid(str(error)) from error
    has_head = tuned.classifier is not None and tuned.classifier.encoder_head is not None
    if has_head != (said.encoder is not None):
        raise _invalid("it names a sentence encoder without a head for one, or has a head without naming one")
    if said.model_sha256 == base.fingerprint and said.label_ids != _label_ids(
        base, said.labels, said.template, "/file"
    ):
        raise _invalid("the tokens of its labels are not those of the base model")
    template = said.template.model_dump()
    return replace(tuned, metadata=said.model_dump(exclude_unset=True) | {"template": template})


def _from_peft(base: LanguageModel, config: str, tensors: bytes, request: ImportRequest) -> TunedContext:
    """An adapter that PEFT wrote. Raises `CannotClassify`."""
    label_ids = _label_ids(base, request.labels, request.template, "/labels")
    words = base.model.get_input_embeddings()
    look_up = partial(word_embeddings, base.model)
    try:
        prompt = peft.read(config.encode(), tensors, look_up, words.num_embeddings, base.context_length)
    except ValueError as error:
        raise _invalid(str(error)) from error
    metadata = {
        "model": base.id,
        "model_sha256": base.fingerprint,
        "labels": request.labels,
        "label_ids": label_ids,
        "template": request.template.model_dump(),
        "encoder": None,
    }
    return TunedContext((prompt,), metadata)


def _label_ids(
    base: LanguageModel, labels: tuple[str, ...], template: Template, param: str
) -> tuple[tuple[int, ...], ...]:
    try:
        ids = tuple(map(tuple, encode_labels(base.tokenizer, ModelTemplate(**template.model_dump()), labels)))
    except ValueError as error:
        raise CannotClassify(ErrorCode.LABELS_INDISTINGUISHABLE, str(error), param) from error
    nodes = len(LabelTrie.build(ids).tokens)
    if nodes > MAX_LABEL_TOKENS:
        text = f"all labels together have {nodes} tokens; at most {MAX_LABEL_TOKENS} can be scored"
        raise CannotClassify(ErrorCode.TEXT_TOO_LONG, text, param)
    return ids


def _check_size(base: LanguageModel, tuned: TunedContext) -> None:
    """Raise `CannotClassify` unless a text has room after each prompt, and prompts are as few as ours are."""
    if len(tuned.prompts) > _PROMPTS:
        raise _invalid(f"it has more than {_PROMPTS} prompts")
    tokens = max(len(prompt.tokens) for prompt in tuned.prompts)
    needed = len(_query(base, tuned)) + max(map(len, tuned.metadata["label_ids"]))
    if tokens + needed > base.context_length:
        text = (
            f"the adapter has a prompt of {tokens} tokens and a text of a letter needs {needed}; "
            f"together they may have {base.context_length}, the context length of the model"
        )
        raise CannotClassify(ErrorCode.CONTEXT_TOO_LONG, text, "/file")


def _check_answer(base: LanguageModel, tuned: TunedContext) -> None:
    """Raise `CannotClassify` where the adapter's numbers give no answer."""
    if not fits_encoder(base, tuned):
        raise _invalid("its head does not fit the sentence encoder")
    predictor = resident(base, tuned).predictor
    found = predictor.probabilities(base.model, [_query(base, tuned)], [_TEXT], exact=True)
    if not bool(found.isfinite().all()):
        raise _invalid("its numbers are too large to give an answer")


def _query(base: LanguageModel, tuned: TunedContext) -> list[int]:
    return encode_query(base.tokenizer, ModelTemplate(**tuned.metadata["template"]), _TEXT)


def _invalid(why: str) -> CannotClassify:
    return CannotClassify(ErrorCode.ADAPTER_INVALID, f"this is no adapter for this base model: {why}", "/file")
