"""``contextune contexts``, ``alias``, ``export`` and ``import``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final

import typer

from contextune.cli.metadata import Metadata, WantedMetadata, metadata_of
from contextune.cli.output import Json, Output, clipped, table
from contextune.cli.pages import contexts_table, ref_of
from contextune.cli.progress import follow
from contextune.cli.reading import Labels, LabelsFile, labels_of
from contextune.cli.report_page import print_context
from contextune.cli.session import connect
from contextune.client import Contextune

contexts = typer.Typer(help="Look at contexts, change their metadata, delete them.", no_args_is_help=True)
alias = typer.Typer(help="Words that point at versions of contexts, such as prod.", no_args_is_help=True)

VersionRef = Annotated[str, typer.Argument(metavar="REF", help="The context: its name@version or id.")]
Ref = Annotated[str, typer.Argument(help="The context: its name, name@version, name@alias or id.")]
Limit = Annotated[int, typer.Option(min=1, help="How many at most.")]
Name = Annotated[str, typer.Argument(help="The name of the contexts.")]
Word = Annotated[str, typer.Argument(help="The alias, such as prod.")]

_VERSION: Final = re.compile(r"[^@]+@\d+")


@contexts.command(name="list")
def list_contexts(
    context: typer.Context,
    name: Annotated[str | None, typer.Option(help="Only contexts of this name.")] = None,
    status: Annotated[str | None, typer.Option(help="Only queued, running, succeeded, failed or cancelled.")] = None,
    model: Annotated[str | None, typer.Option(help="Only contexts of this base model.")] = None,
    metadata: WantedMetadata = None,
    limit: Limit = 20,
    as_json: Json = False,
) -> None:
    """List contexts, newest first."""
    wanted = metadata_of(metadata)
    with connect(context) as client:
        found = list(client.contexts.list(name=name, status=status, model=model, metadata=wanted, limit=limit))
    Output(as_json).result(found, lambda console: console.print(contexts_table(found)))


@contexts.command()
def show(context: typer.Context, ref: Ref, as_json: Json = False) -> None:
    """Show a context and its report."""
    with connect(context) as client:
        found = client.contexts.get(ref)
    Output(as_json).result(found, lambda console: print_context(console, found))


@contexts.command()
def examples(context: typer.Context, ref: Ref, as_json: Json = False) -> None:
    """Print the examples of a context, each with the JSON pointer that reports call it by."""
    with connect(context) as client:
        found = list(client.contexts.examples(ref))
    rows = [(f"/examples/{index}", clipped(one.label, 40), clipped(one.text, 100)) for index, one in enumerate(found)]
    Output(as_json).result(found, lambda console: console.print(table(["example", "label", "text"], rows)))


@contexts.command()
def update(
    context: typer.Context,
    ref: VersionRef,
    metadata: Metadata = None,
    remove_metadata: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="A key of the metadata to remove; may be given again.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Change the metadata of a context; keys that are not given stay."""
    _require_version(ref)
    given, removed = metadata_of(metadata) or {}, remove_metadata or []
    if not given and not removed:
        raise typer.BadParameter("name what to change: --metadata or --remove-metadata")
    if both := given.keys() & set(removed):
        raise typer.BadParameter(f"the key {min(both)!r} is given too", param_hint="--remove-metadata")
    with connect(context) as client:
        found = client.contexts.update(_id_of(client, ref), metadata={**given, **dict.fromkeys(removed)})
    Output(as_json).result(found, lambda console: print_context(console, found))


@contexts.command()
def delete(context: typer.Context, ref: VersionRef, as_json: Json = False) -> None:
    """Delete a context for good."""
    _require_version(ref)
    with connect(context) as client:
        context_id = _id_of(client, ref)
        client.contexts.delete(context_id)
    Output(as_json).result({"id": context_id, "deleted": True}, lambda _: None)


def _require_version(ref: str) -> None:
    """Refuse what means another version tomorrow: a name alone, or an alias."""
    if not ref.startswith("ctx_") and not _VERSION.fullmatch(ref):
        text = f"{ref!r} is neither name@version nor an id; `contextune contexts list` shows both"
        raise typer.BadParameter(text, param_hint="REF")


def _id_of(client: Contextune, ref: str) -> str:
    return ref if ref.startswith("ctx_") else client.contexts.get(ref).id


@alias.command(name="set")
def set_alias(
    context: typer.Context,
    name: Name,
    word: Word,
    version: Annotated[int, typer.Argument(min=1, help="The version to point at.")],
    if_version: Annotated[int | None, typer.Option(help="Only if it points at this version now.")] = None,
    min_accuracy: Annotated[float | None, typer.Option(help="Only if the report's accuracy is at least this.")] = None,
    max_ece: Annotated[float | None, typer.Option(help="Only if the report's ECE is at most this.")] = None,
    not_worse_than: Annotated[
        str | None, typer.Option(help="Only if its accuracy is not below that of this alias or version.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Point an alias at a version."""
    require = {"min_accuracy": min_accuracy, "max_ece": max_ece, "not_worse_than": not_worse_than}
    given = {key: value for key, value in require.items() if value is not None}
    with connect(context) as client:
        found = client.aliases.set(name, word, version, if_version=if_version, require=given or None)
    before = f" (was {found.previous_version})" if found.previous_version else ""
    Output(as_json).result(found, lambda console: console.print(f"{name}@{word} → {name}@{found.version}{before}"))


@alias.command(name="show")
def show_alias(context: typer.Context, name: Name, word: Word, as_json: Json = False) -> None:
    """Show the version that an alias points at."""
    with connect(context) as client:
        found = client.aliases.get(name, word)
    Output(as_json).result(found, lambda console: console.print(f"{name}@{word} → {name}@{found.version}"))


@alias.command(name="delete")
def delete_alias(context: typer.Context, name: Name, word: Word, as_json: Json = False) -> None:
    """Delete an alias."""
    with connect(context) as client:
        client.aliases.delete(name, word)
    Output(as_json).result({"name": name, "alias": word, "deleted": True}, lambda _: None)


def export(
    context: typer.Context,
    ref: Ref,
    path: Annotated[Path | None, typer.Argument(help="Where to write it; NAME.zip here unless given.")] = None,
    embeddings: Annotated[bool, typer.Option(help="Prompt embeddings alone, as safetensors.")] = False,
    as_json: Json = False,
) -> None:
    """Write a context's adapter to a file, for another installation or for PEFT."""
    target = path or Path(ref.replace("/", "-") + (".safetensors" if embeddings else ".zip"))
    with connect(context) as client:
        size = client.contexts.export(ref, target, embeddings=embeddings)
    data = {"path": str(target), "bytes": size}
    Output(as_json).result(data, lambda console: console.print(f"{target} ({size:,} bytes)"))


def import_(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A zip file that `export` wrote, or a zip file of PEFT's two files.")],
    name: Annotated[str | None, typer.Option(help="The context's name.")] = None,
    model: Annotated[str | None, typer.Option(help="The base model, where the zip file does not name it.")] = None,
    labels: Labels = None,
    labels_file: LabelsFile = None,
    as_json: Json = False,
) -> None:
    """Make a context of an adapter. Give the labels, in their order, where the zip file does not name them."""
    output = Output(as_json)
    with connect(context) as client:
        imported = client.contexts.import_(file, name=name, model=model, labels=labels_of(labels, labels_file, None))
        if imported.job is not None:
            follow(client, imported.job, output)
    output.result(imported.context, lambda console: console.print(ref_of(imported.context)))
