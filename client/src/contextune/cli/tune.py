"""``contextune tune``: from a file of labelled examples to a context that answers, and its report."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from contextune.cli.metadata import Metadata, metadata_of
from contextune.cli.output import Json, Output, clipped, table
from contextune.cli.progress import follow
from contextune.cli.reading import (
    Encoding,
    Examples,
    Format,
    LabelColumn,
    Labels,
    LabelsFile,
    TextColumn,
    labels_of,
    texts_in,
)
from contextune.cli.report_page import print_context
from contextune.cli.session import connect
from contextune.client import Contextune
from contextune.errors import InvalidRequestError, SourceError
from contextune.models.contexts import BudgetOffer, DryRun, LabelDescription
from contextune.sources import Columns

_BUDGET_COLUMNS: Final = ("max_seconds", "seconds", "examples read", "steps of a prompt", "steps of the encoder")
_EXAMPLE: Final = re.compile(r"/examples/\d+")


def tune(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(
            help="CSV, TSV, JSONL, JSON or Excel, with a text and a label in each row; optional with --base."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The context's name; that of the file, or of the base, unless given.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The base model; the service's first unless given.")] = None,
    method: Annotated[str | None, typer.Option(help="auto, cpt or icl.")] = None,
    base: Annotated[
        str | None,
        typer.Option(
            help="A context whose examples come first; its name is kept, and its settings unless others are given."
        ),
    ] = None,
    remove_example: Annotated[
        list[str] | None,
        typer.Option(help="An example of --base to leave out, such as /examples/3; may be given again."),
    ] = None,
    labels: Labels = None,
    labels_file: LabelsFile = None,
    max_seconds: Annotated[
        Any, typer.Option(parser=_bound, metavar="SECONDS", help="What the search of auto may take, or auto, or none.")
    ] = None,
    validation: Annotated[
        Path | None, typer.Option(help="A file of examples that are only measured, never learned from.")
    ] = None,
    calibration_texts: Annotated[
        Path | None, typer.Option(help="A file of texts without labels, like those to come.")
    ] = None,
    metadata: Metadata = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    file_format: Format = None,
    encoding: Encoding = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="A hyperparameter, such as steps=12; may be given again.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only check the examples and say what tuning would take.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the end of the job.")] = False,
    as_json: Json = False,
) -> None:
    """Tune a context on labelled examples, and report how good it is.

    With --base the next version of that context is tuned: on its examples, without those of --remove-example, and on
    the examples of FILE. Its metadata is kept unless --metadata is given.

    Ctrl-C asks whether to cancel the job; it goes on unless the answer is yes.
    """
    output = Output(as_json)
    if file is None and base is None:
        raise typer.BadParameter("name a file of examples, or a context with --base", param_hint="FILE")
    if remove_example and base is None:
        raise typer.BadParameter("needs --base, the context that has the example", param_hint="--remove-example")
    for pointer in remove_example or ():
        if not _EXAMPLE.fullmatch(pointer):
            raise typer.BadParameter(f"{pointer!r} is not of the form /examples/3", param_hint="--remove-example")
    called = name or (name_of(file) if file and not base else None)
    known_by = {"name": called, "metadata": metadata_of(metadata)}
    columns = Columns(text_column, label_column)
    examples = Examples.read(file, columns, file_format, encoding, alone=base is None) if file else None
    measured = Examples.read(validation, columns, file_format, encoding) if validation else None
    unlabelled = texts_in(calibration_texts, Columns(text_column), file_format, encoding) if calibration_texts else None
    if examples:
        examples.preview(output)
    with connect(context) as client:
        known = client.contexts.get(base).labels if base and (labels or labels_file) else ()
        body: dict[str, Any] = {
            "examples": examples and examples.examples,
            "validation_examples": measured and measured.examples,
            "calibration_texts": unlabelled and list(unlabelled),
            "labels": labels_of(labels, labels_file, encoding, [*known, *(examples.labels if examples else ())]),
            "model": model,
            "base_context": base,
            "remove_examples": remove_example,
            "hyperparameters": _hyperparameters(setting or [], method=method, max_seconds=max_seconds),
        }
        _tune(client, body, known_by, examples, output, dry_run=dry_run, detach=detach)


def _tune(
    client: Contextune,
    body: dict[str, Any],
    known_by: dict[str, Any],
    examples: Examples | None,
    output: Output,
    *,
    dry_run: bool,
    detach: bool,
) -> None:
    try:
        planned = client.contexts.dry_run(**body)
        _warn(output, planned, examples, body["labels"] or ())
        if dry_run:
            output.result(planned, lambda console: _print_needs(console, planned))
            return
        tuning = client.contexts.create(**body, **known_by)
    except InvalidRequestError as error:
        raise _blamed(error, examples, body["remove_examples"] or ()) from None
    if detach or tuning.job is None:
        output.result(
            {"context": tuning.context, "job": tuning.job},
            lambda console: console.print(f"{tuning.context.id} {tuning.job.id if tuning.job else ''}".strip()),
        )
        return
    follow(client, tuning.job, output)
    _finish(client, tuning.context.id, examples, output)


def _blamed(
    error: InvalidRequestError, examples: Examples | None, removed: Sequence[str]
) -> SourceError | InvalidRequestError:
    """A refusal of the service, with the option or the line of the file that it is about."""
    head, _, index = (error.param or "").rpartition("/")
    if head == "/remove_examples" and index.isdecimal() and int(index) < len(removed):
        return SourceError(f"--remove-example {removed[int(index)]}: {error.detail}")
    return examples.blamed(error) if examples else error


def _finish(client: Contextune, context_id: str, examples: Examples | None, output: Output) -> None:
    tuned = client.contexts.get(context_id)
    located = examples.located if examples else str
    output.result(tuned, lambda console: print_context(console, tuned, located))
    text = clipped(examples.examples[0].text, 60) if examples else "a text to classify"
    output.note(f'\nTry it: contextune classify {tuned.name or tuned.id} "{text}"')


def _bound(text: str) -> float | str:
    """Seconds, or "auto", or "none"."""
    if text in {"auto", "none"}:
        return text
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no number of seconds, nor auto, nor none") from None


def _hyperparameters(settings: list[str], **given: Any) -> dict[str, Any] | None:
    found = {name: value for name, value in given.items() if value is not None}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise typer.BadParameter(f"{setting!r} is no NAME=VALUE", param_hint="--set")
        found[name] = _value(value)
    return found or None


def _value(text: str) -> Any:
    """A number or true or false where it is written so, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _warn(output: Output, planned: DryRun, examples: Examples | None, labels: Sequence[LabelDescription]) -> None:
    for warning in planned.warnings:
        where = _place(warning.param or "", examples, labels)
        output.note(f"Warning: {warning.message}" + (f" ({where})" if where else ""))


def _place(pointer: str, examples: Examples | None, labels: Sequence[LabelDescription]) -> str:
    """What a JSON pointer means, as a person finds it; nothing where it means all examples."""
    head, _, index = pointer.rpartition("/")
    if head == "/labels" and index.isdecimal() and int(index) < len(labels):
        return repr(labels[int(index)].name)
    if pointer == "/examples":
        return ""
    return examples.located(pointer) if examples else pointer


def _print_needs(console: Console, planned: DryRun) -> None:
    """Print what a job needs, and what other bounds on its time would buy."""
    console.print(
        f"{planned.context_tokens} tokens of {planned.context_limit}, {planned.total_steps} steps in all, "
        f"about {planned.estimated_seconds:.0f} s on {planned.model}"
    )
    if planned.budgets:
        console.print()
        console.print(table(_BUDGET_COLUMNS, map(_offer, planned.budgets), right=range(1, len(_BUDGET_COLUMNS))))


def _offer(budget: BudgetOffer) -> tuple[str, ...]:
    bound = "none" if budget.max_seconds is None else f"{budget.max_seconds:.0f}"
    read, steps = (max((trial[name] for trial in budget.trials), default=0) for name in ("examples", "steps"))
    scored = max((_scored(trial) for trial in budget.trials), default=0)
    examples = f"{read}" if scored >= read else f"{read} ({scored} scored)"
    return (bound, f"about {budget.estimated_seconds:.0f}", examples, f"{steps}", f"{budget.encoder_steps}")


def _scored(trial: dict[str, Any]) -> int:
    """Examples that a trial scores labels for: all that it reads, unless it says otherwise."""
    given = trial.get("scored_examples")
    return int(trial["examples"] if given is None else given)


def name_of(file: Path) -> str:
    """A name that the service takes, out of the file's."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).strip("-._")[:100]
    return name if name and not name.startswith("ctx_") else "context"
