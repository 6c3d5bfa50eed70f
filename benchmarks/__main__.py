"""The command: `python -m benchmarks [--quick] [tuning | classification | service | profile | report]`; none is all."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from transformers.utils.logging import disable_progress_bar

from benchmarks import classification, profiling, report, service, tuning
from benchmarks.machine import describe
from benchmarks.results import OtherRunError, Results
from benchmarks.settings import FULL, QUICK, Settings
from benchmarks.subject import Subject

HERE = Path(__file__).parent
BUILD = HERE.parent / "build" / "benchmarks"

cli = typer.Typer(name="benchmarks", add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Run:
    """One run: what is measured, how much of it, and where results go."""

    subject: Subject
    settings: Settings
    results: Results
    readme: Path
    cache: Path
    data: Path

    def tuning(self) -> None:
        tuning.measure(self.subject, self.settings, self.results, self.cache, self.data)
        self.report()

    def classification(self) -> None:
        classification.measure(self.subject, self.settings, self.results)
        self.report()

    def service(self) -> None:
        service.measure(self.subject, self.settings, self.results, self.cache, self.data)
        self.report()

    def profile(self) -> None:
        profiling.measure(self.subject, self.settings, self.results)
        self.report()

    def report(self) -> None:
        report.write(self.results, self.readme)


@cli.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    quick: Annotated[bool, typer.Option(help="tiny sizes, to see that everything runs; kept in build/")] = False,
    fresh: Annotated[bool, typer.Option(help="forget earlier results instead of completing them")] = False,
    rounds: Annotated[int | None, typer.Option(min=1, help="times that every contender is measured")] = None,
    data: Annotated[Path, typer.Option(help="folder of the data sets")] = HERE.parent.parent / "shared" / "data",
) -> None:
    """Measure tuning, classification and the service against named peers; without a command, all of them."""
    _quieten()
    settings = QUICK if quick else FULL
    settings = replace(settings, rounds=rounds or settings.rounds)
    folder, cache = (BUILD if quick else HERE), BUILD / "models"
    folder.mkdir(parents=True, exist_ok=True)
    cache.mkdir(parents=True, exist_ok=True)
    subject = Subject.load(cache, data)
    run = {"machine": describe(), "settings": asdict(settings), "texts": subject.texts.source}
    try:
        results = Results(folder / "results.json", run, fresh=fresh)
    except OtherRunError as error:
        typer.echo(f"{error}; --fresh starts anew", err=True)
        raise typer.Exit(1) from error
    context.obj = Run(subject, settings, results, folder / "README.md", cache, data)
    if context.invoked_subcommand is None:
        for part in (context.obj.tuning, context.obj.classification, context.obj.service, context.obj.profile):
            part()
        print(report.tables(results))


@cli.command("tuning")
def _tuning(context: typer.Context) -> None:
    """Steps, memory and whole jobs, against PEFT."""
    context.obj.tuning()


@cli.command("classification")
def _classification(context: typer.Context) -> None:
    """Queries in batches, against PEFT, transformers and llama.cpp."""
    context.obj.classification()


@cli.command("service")
def _service(context: typer.Context) -> None:
    """The whole service, against the scorer in this process."""
    context.obj.service()


@cli.command("profile")
def _profile(context: typer.Context) -> None:
    """Where the time goes in a step and in a batch."""
    context.obj.profile()


@cli.command("report")
def _report(context: typer.Context) -> None:
    """Write the tables anew from the stored results."""
    context.obj.report()


def _quieten() -> None:
    """PEFT reads what transformers has deprecated; transformers shows a bar for every loading."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    disable_progress_bar()


if __name__ == "__main__":
    cli()
