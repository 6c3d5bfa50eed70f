"""``/contexts``: create, look up, change, delete, export and import contexts, and the aliases of their versions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from contextune.errors import SourceError
from contextune.models.contexts import Alias, Context, CreatedContext, DryRun, Example, LabelDescription, Template
from contextune.models.listing import Page
from contextune.protocol import call as calling
from contextune.protocol.call import Call, Request, path, query, send_json
from contextune.protocol.call import model as read_model
from contextune.protocol.multipart import form_with_file
from contextune.sources import ExampleSource, examples_from

#: Planning counts the tokens of all examples, and waits for a worker that is busy.
_PLAN_SECONDS: Final = 120.0
_ADAPTER_SECONDS: Final = 300.0


def create(
    examples: ExampleSource | None = None,
    *,
    name: str | None = None,
    model: str | None = None,
    labels: Sequence[str | LabelDescription | Mapping[str, str]] | None = None,
    training_examples: ExampleSource | None = None,
    validation_examples: ExampleSource | None = None,
    calibration_texts: Sequence[str] | None = None,
    base_context: str | None = None,
    remove_examples: Sequence[str] | None = None,
    template: Template | Mapping[str, str] | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
    metadata: Mapping[str, str] | None = None,
    idempotency_key: str | None = None,
) -> Call[CreatedContext]:
    """Create a context and queue the job that tunes it.

    ``examples`` are all the labelled texts there are: a path (CSV, TSV, JSONL, JSON, Excel), a table of pandas or
    polars, or an iterable of mappings, pairs (text, label) or `Example`. ``training_examples`` never stand in the
    context, ``validation_examples`` are only measured. With ``base_context``, a ref, its examples come first and every
    field that is not given is its.
    """
    body = _body(
        examples=_written(examples, alone=labels is None and base_context is None),
        name=name,
        model=model,
        labels=_labels(labels),
        training_examples=_written(training_examples),
        validation_examples=_written(validation_examples),
        calibration_texts=_texts(calibration_texts),
        base_context=base_context,
        remove_examples=_texts(remove_examples),
        template=template,
        hyperparameters=hyperparameters,
        metadata=metadata,
    )
    return Call(
        send_json("POST", "/contexts", body, read_seconds=_PLAN_SECONDS),
        read_model(CreatedContext),
        creates=True,
        idempotency_key=idempotency_key,
    )


def dry_run(
    examples: ExampleSource | None = None,
    *,
    model: str | None = None,
    labels: Sequence[str | LabelDescription | Mapping[str, str]] | None = None,
    training_examples: ExampleSource | None = None,
    validation_examples: ExampleSource | None = None,
    calibration_texts: Sequence[str] | None = None,
    base_context: str | None = None,
    remove_examples: Sequence[str] | None = None,
    template: Template | Mapping[str, str] | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
) -> Call[DryRun]:
    """Check examples and say what a context of them would need; nothing is stored. Arguments are those of `create`."""
    body = _body(
        examples=_written(examples, alone=labels is None and base_context is None),
        model=model,
        labels=_labels(labels),
        training_examples=_written(training_examples),
        validation_examples=_written(validation_examples),
        calibration_texts=_texts(calibration_texts),
        base_context=base_context,
        remove_examples=_texts(remove_examples),
        template=template,
        hyperparameters=hyperparameters,
    )
    request = send_json("POST", "/contexts", body, read_seconds=_PLAN_SECONDS, dry_run=True)
    return Call(request, read_model(DryRun))


def get(ref: str) -> Call[Context]:
    """Get a context by a ref: its id, ``name``, ``name@3`` or ``name@alias``."""
    return calling.get(path("contexts", ref), read_model(Context))


def page(
    *,
    name: str | None = None,
    status: str | None = None,
    model: str | None = None,
    metadata: Mapping[str, str] | None = None,
    limit: int | None = None,
    after: str | None = None,
) -> Call[Page[Context]]:
    """Get one page of contexts, newest first."""
    wanted = {f"metadata[{key}]": value for key, value in (metadata or {}).items()}
    return calling.get(
        "/contexts",
        read_model(Page[Context]),
        name=name,
        status=status,
        model=model,
        limit=limit,
        after=after,
        **wanted,
    )


def examples_page(ref: str, *, limit: int | None = None, after: str | None = None) -> Call[Page[Example]]:
    """Get one page of the examples of a context."""
    return calling.get(path("contexts", ref, "examples"), read_model(Page[Example]), limit=limit, after=after)


def update(context_id: str, *, metadata: Mapping[str, str | None]) -> Call[Context]:
    """Set keys of the metadata of a context, or remove them with None; other keys stay."""
    return Call(send_json("PATCH", path("contexts", context_id), {"metadata": metadata}), read_model(Context))


def delete(context_id: str) -> Call[None]:
    """Delete a context for good, by its id. Deleting one that is gone is no error."""
    return calling.delete(path("contexts", context_id))


def get_alias(name: str, alias: str) -> Call[Alias]:
    """Get the version that an alias points at."""
    return calling.get(path("contexts", name, "aliases", alias), read_model(Alias))


def set_alias(
    name: str, alias: str, version: int, *, if_version: int | None = None, require: Mapping[str, Any] | None = None
) -> Call[Alias]:
    """Point an alias at a version, atomically.

    With ``if_version`` only if it points at that version now (409 or 412 otherwise). ``require`` names what the report
    must bear out, such as ``{"min_accuracy": 0.9}``.
    """
    headers = None if if_version is None else {"if-match": f'"{if_version}"'}
    body = {"version": version, "require": require}
    request = send_json("PUT", path("contexts", name, "aliases", alias), body, headers=headers)
    return Call(request, read_model(Alias))


def delete_alias(name: str, alias: str) -> Call[None]:
    """Delete an alias. Deleting one that is gone is no error."""
    return calling.delete(path("contexts", name, "aliases", alias))


def export(ref: str, *, embeddings: bool = False) -> Request:
    """The adapter of a context as a zip, or its prompt ``embeddings`` as safetensors."""
    return Request(
        "GET",
        path("contexts", ref, "adapter"),
        query(format="embeddings" if embeddings else None),
        read_seconds=_ADAPTER_SECONDS,
    )


def import_(
    file: str | Path,
    *,
    name: str | None = None,
    model: str | None = None,
    labels: Sequence[str | LabelDescription | Mapping[str, str]] | None = None,
    template: Template | Mapping[str, str] | None = None,
    idempotency_key: str | None = None,
) -> Call[CreatedContext]:
    """Create a context of an adapter: a zip that this service exported, or one with PEFT's own two files.

    ``labels``, ``template`` and ``model`` are needed where the zip does not say.
    """
    zipped = Path(file)
    if not zipped.is_file():
        raise SourceError(f"{zipped}: there is no such file")
    fields = _body(name=name, model=model, labels=_labels(labels), template=template)
    upload = form_with_file(fields, zipped, "adapter.zip", "application/zip")
    request = Request("POST", "/contexts/import", content=upload, read_seconds=_ADAPTER_SECONDS)
    return Call(request, read_model(CreatedContext), creates=True, idempotency_key=idempotency_key)


def _body(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _written(source: ExampleSource | None, *, alone: bool = False) -> list[dict[str, str]] | None:
    return None if source is None else [example.body for example in examples_from(source, alone=alone)]


def _texts(texts: Iterable[str] | None) -> list[str] | None:
    return None if texts is None else list(texts)


def _labels(labels: Sequence[Any] | None) -> list[Any] | None:
    return None if labels is None else list(labels)
