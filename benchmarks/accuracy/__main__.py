"""The command: `python -m benchmarks.accuracy [--data FOLDER] [--only METHOD] [measure | ablation | report]`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from transformers.utils.logging import disable_progress_bar

from app.contract.names import DEFAULT_MODELS
from benchmarks.accuracy import frozen, report
from benchmarks.accuracy.cells import Cell, Outcome, Task
from benchmarks.accuracy.protocol import ALL, SEEDS, DataSet, load
from benchmarks.machine import describe
from benchmarks.results import OtherRunError, Results
from worker.config import ModelSource
from worker.models import LanguageModel, load_language_model

HERE = Path(__file__).parent
MODEL = next(iter(DEFAULT_MODELS))

#: (data set, k): those of the mean first and the dearest last, so that a run that is broken off has told most.
DRAWS = (
    *((name, 4) for name in ("sst2_sent", "trec", "agnews", "banking77")),
    *((name, k) for k in (2, 8) for name in ("sst2_sent", "trec")),
    ("chnsenticorp", 4),
)
ABLATION_DRAWS = (("sst2_sent", 4), ("trec", 4))

#: What is changed in "auto", one lever at a time.
ABLATION: dict[str, dict[str, Any]] = {
    "without leave-one-out": {"leave_one_out": False},
    "epsilons of the reference": {
        "epsilon_unit": "reference",
        "projection_epsilon": 0.1,
        "projection_format_epsilon": 0.1,
    },
    "full loss": {"weighted_loss_type": "none"},
    "training labels only": {"weighted_loss_type": "decay", "loss_decay_factor": 0.0},
    "without early stopping": {"early_stopping": False},
    "cosine learning rate": {"learning_rate_schedule": "cosine"},
    "without token dropout": {"token_dropout": 0.0},
    "without calibration": {"calibration": False},
    "without head": {"head": False},
}

cli = typer.Typer(name="benchmarks.accuracy", add_completion=False, pretty_exceptions_enable=False)
Method = Callable[[Task, int], Outcome]


@cli.command()
def main(
    parts: Annotated[list[str] | None, typer.Argument(help="measure, ablation or report; all of them if none")] = None,
    data: Annotated[Path, typer.Option(help="folder of the data sets")] = HERE.parent.parent.parent / "shared" / "data",
    only: Annotated[list[str] | None, typer.Option(help="methods to measure")] = None,
    fresh: Annotated[bool, typer.Option(help="forget earlier results instead of completing them")] = False,
) -> None:
    """Measure accuracy at the same shots. Each cell is stored as it ends; a run goes on where it was broken off."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    disable_progress_bar()
    wanted = parts or ["measure", "ablation", "report"]
    try:
        machine = describe()
        del machine["torch_threads"]  # each cell names its own: seconds hang on it, accuracy does not
        results = Results(HERE / "results.json", {"machine": machine}, fresh=fresh)
    except OtherRunError as error:
        typer.echo(f"{error}; --fresh starts anew", err=True)
        raise typer.Exit(1) from error
    cache = HERE.parent.parent / "build" / "benchmarks" / "models"
    base = load_language_model(MODEL, ModelSource(**DEFAULT_MODELS[MODEL]), cache, print)
    if "measure" in wanted:
        methods = {name: method for name, method in _methods(base).items() if not only or name in only}
        _measure(results, data, DRAWS, methods)
    if "ablation" in wanted:
        _measure(results, data, ABLATION_DRAWS, _ablation(base))
    report.write(results, HERE.parent / "README.md")


def _methods(base: LanguageModel) -> dict[str, Method]:
    """Every contender by its name."""
    return {
        "icl": lambda task, _: frozen.icl(base, task),
        "icl_calibrated": lambda task, _: frozen.icl_calibrated(base, task),
        "minilm": lambda task, _: _sentences().regression(task),
        "hidden_head": lambda task, _: frozen.hidden_head(base, task),
        "auto": lambda task, seed: frozen.auto(base, task, seed=seed),
        "setfit": lambda task, seed: _sentences().setfit(task, seed),
        "cpt_1e-2": lambda task, _: frozen.cpt(base, task, 1e-2),
        "cpt_1e-3": lambda task, _: frozen.cpt(base, task, 1e-3),
    }


def _ablation(base: LanguageModel) -> dict[str, Method]:
    def method(levers: dict[str, Any], task: Task, seed: int) -> Outcome:
        return frozen.auto(base, task, seed=seed, **levers)

    return {f"auto {name}": partial(method, levers) for name, levers in ABLATION.items()}


def _sentences() -> Any:
    from benchmarks.accuracy import sentences  # slow to import, and not needed for the others  # noqa: PLC0415

    return sentences


def _measure(results: Results, data: Path, draws: Sequence[tuple[str, int]], methods: dict[str, Method]) -> None:
    sets = {name: load(data, name) for name in ALL}
    for name, k in draws:
        for method_name, method in methods.items():
            for seed in SEEDS:
                cell = partial(_cell, sets[name], k, seed, method)
                results.cell(f"{name}/{k}/{seed}/{method_name}", cell)


def _cell(data: DataSet, k: int, seed: int, method: Method) -> Cell:
    task = Task.draw(data, k, seed)
    return {**method(task, seed).cell(task.truth), "threads": torch.get_num_threads()}


if __name__ == "__main__":
    cli()
