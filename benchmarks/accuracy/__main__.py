"""The command: `python -m benchmarks.accuracy [--data FOLDER] [--only METHOD] [PART]`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from transformers.utils.logging import disable_progress_bar

from app.contract.names import DEFAULT_MODELS
from benchmarks.accuracy import larger, others, ours, plain, planted, report, second, sentences
from benchmarks.accuracy.cells import Cell, Outcome, Task
from benchmarks.accuracy.descriptions import DESCRIPTIONS
from benchmarks.accuracy.protocol import ENGLISH, SEEDS, DataSet, load
from benchmarks.results import OtherRunError, Results
from worker.config import ModelSource
from worker.encoders import load_encoders
from worker.models import LanguageModel, load_language_model

HERE = Path(__file__).parent
MODEL = next(iter(DEFAULT_MODELS))

#: (data set, k): those that tell most first, so that a run that is broken off has told most.
DRAWS = (
    *((name, 4) for name in (*ENGLISH, "chnsenticorp")),
    *((name, 16) for name in (*ENGLISH, "chnsenticorp")),
    ("banking77_all", 5),
    *((name, k) for k in (2, 8, 32, 64) for name in (*ENGLISH, "chnsenticorp")),
    ("banking77_all", 10),
)
OTHERS_DRAWS = tuple((name, k) for k in (4, 16) for name in others.NAMES)
OTHERS_METHODS = ("e5", "minilm", "auto", "icl_calibrated", "setfit")
SECOND_DRAWS = tuple((name, 4) for name in (*ENGLISH, "chnsenticorp"))
ABLATION_DRAWS = (("trec", 4), ("agnews", 4), ("banking77_design", 4), ("trec", 16))

#: Hyperparameters that are changed in "auto", one lever at a time.
ABLATION: dict[str, dict[str, Any]] = {
    "without states": {"head": False},
    "without encoder": {"encoder": False},
    "without tuning of the encoder": {"encoder_steps": 0},
    "without calibration": {"calibration": False},
    "without early stopping": {"early_stopping": False},
    "without cross-fitting": {"cross_validation": False},
    "without leave-one-out": {"leave_one_out": False},
    "without token dropout": {"token_dropout": 0.0},
    "with context labels": {"weighted_loss_type": "none"},
}

cli = typer.Typer(name="benchmarks.accuracy", add_completion=False, pretty_exceptions_enable=False)
Method = Callable[[Task, int], Outcome]


@cli.command()
def main(
    parts: Annotated[
        list[str] | None,
        typer.Argument(
            help="measure, zero-shot, ablation, planted, others, second, larger or report; "
            "the first four and report if none"
        ),
    ] = None,
    data: Annotated[Path, typer.Option(help="folder of the data sets")] = HERE.parent.parent.parent / "shared" / "data",
    only: Annotated[list[str] | None, typer.Option(help="methods to measure")] = None,
    others_wheels: Annotated[Path | None, typer.Option(help="folder of the wheels of two more sets")] = None,
    second_wheels: Annotated[Path | None, typer.Option(help="folder of the second base model's wheels")] = None,
    larger_wheels: Annotated[Path | None, typer.Option(help="folder of the larger encoder's wheels")] = None,
    fresh: Annotated[bool, typer.Option(help="forget earlier results instead of completing them")] = False,
) -> None:
    """Measure accuracy at the same shots. Each cell is stored as it ends; a run goes on where it was broken off."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    disable_progress_bar()
    wanted = parts or ["measure", "zero-shot", "ablation", "planted", "report"]
    try:
        # Each cell names its processor and threads: seconds hang on them, accuracy does not.
        results = Results(HERE / "results.json", {"protocol": 2}, fresh=fresh)
    except OtherRunError as error:
        typer.echo(f"{error}; --fresh starts anew", err=True)
        raise typer.Exit(1) from error
    if {"measure", "zero-shot", "ablation", "planted"} & set(wanted):
        base = load_base()
        if "zero-shot" in wanted:
            _measure_zero_shot(results, data, base)
        if "measure" in wanted:
            methods = {name: method for name, method in _methods(base).items() if not only or name in only}
            _measure(results, _sets(data, DRAWS), DRAWS, methods)
        if "ablation" in wanted:
            _measure(results, _sets(data, ABLATION_DRAWS), ABLATION_DRAWS, _ablation(base))
        if "planted" in wanted:
            _measure_planted(results, data, base)
    if "second" in wanted:
        methods = _second_methods(load_second(_given("second", second_wheels)))
        _measure(results, _sets(data, SECOND_DRAWS), SECOND_DRAWS, methods)
    if "larger" in wanted:
        folder = larger.larger_folder(_given("larger", larger_wheels), sentences.CACHE)
        _measure(results, _sets(data, DRAWS), DRAWS, _larger_methods(load_base(), str(folder)))
    if "others" in wanted:
        sets, base = others.load_others(_given("others", others_wheels)), load_base()
        methods = {name: method for name, method in _methods(base).items() if name in OTHERS_METHODS}
        _measure(results, sets, OTHERS_DRAWS, methods)
    report.write(results, HERE.parent / "README.md")


def _given(part: str, wheels: Path | None) -> Path:
    if wheels is None:
        raise typer.BadParameter(f"the part {part} needs --{part}-wheels")
    return wheels


def load_base() -> LanguageModel:
    return _loaded(MODEL, ModelSource(**DEFAULT_MODELS[MODEL]))


def load_second(wheels: Path) -> LanguageModel:
    return _loaded(second.NAME, ModelSource(path=str(second.second_file(wheels, sentences.CACHE))))


def _loaded(name: str, source: ModelSource) -> LanguageModel:
    base = load_language_model(name, source, sentences.CACHE, print)
    return _beside(base, f"{sentences.E5},{sentences.MINILM}")


def _beside(base: LanguageModel, encoders: str) -> LanguageModel:
    """The base model beside these encoders, as `CONTEXTUNE_ENCODER` sets them."""
    return replace(base, encoders=load_encoders(encoders, base.device, sentences.CACHE, print))


def _methods(base: LanguageModel) -> dict[str, Method]:
    """Every contender by its name, the quick ones first."""
    return {
        "e5": lambda task, _: sentences.regression(task, sentences.E5),
        "minilm": lambda task, _: sentences.regression(task, sentences.MINILM),
        "auto": lambda task, seed: ours.auto(base, task, seed=seed),
        "auto_texts": lambda task, seed: ours.auto_with_texts(base, task, seed),
        "auto_e5": lambda task, seed: ours.auto(_beside(base, sentences.E5), task, seed=seed),
        "icl": lambda task, _: ours.icl(base, task),
        "plain": lambda task, _: plain.with_examples(base, task),
        "icl_calibrated": lambda task, _: ours.icl_calibrated(base, task),
        "cpt_1e-2": lambda task, _: ours.cpt(base, task, 1e-2),
        "setfit": sentences.setfit_minilm,
        "setfit_e5": partial(sentences.setfit, sentences.E5),
    }


def _second_methods(base: LanguageModel) -> dict[str, Method]:
    """Ours, and the peer that is best with it, on the second base model."""
    return {
        f"auto_{second.NAME}": lambda task, seed: ours.auto(base, task, seed=seed),
        f"icl_calibrated_{second.NAME}": lambda task, _: ours.icl_calibrated(base, task),
    }


def _larger_methods(base: LanguageModel, folder: str) -> dict[str, Method]:
    """Peers on the larger encoder in `folder`, and ours with it as the second in place of MiniLM."""
    return {
        "mpnet": lambda task, _: sentences.regression(task, folder),
        "auto_mpnet": lambda task, seed: ours.auto(_beside(base, f"{sentences.E5},{folder}"), task, seed=seed),
        "setfit_mpnet": partial(sentences.setfit, folder),
    }


#: Methods that take all examples into one context, or hours: where they are measured.
_SMALL = {"icl", "plain", "icl_calibrated", "cpt_1e-2"}
_MOST_SETFIT = 8
#: Of so many labels, all English intents, held-out examples choose the second encoder.
_INTENTS = 20
#: Texts without labels count most where examples are few.
_MOST_WITH_TEXTS = 4


def _measured(method: str, task: Task, k: int) -> bool:
    if method in _SMALL:
        return len(task.shots) <= ours.MOST_REFERENCE_EXAMPLES or k <= 4
    if method in {"auto_e5", "auto_mpnet"}:
        return len(task.labels) >= _INTENTS
    if method == "auto_texts":
        return k <= _MOST_WITH_TEXTS
    return not method.startswith("setfit") or k <= _MOST_SETFIT


def _ablation(base: LanguageModel) -> dict[str, Method]:
    def method(levers: dict[str, Any], task: Task, seed: int) -> Outcome:
        return ours.auto(base, task, seed=seed, **levers)

    named: dict[str, Method] = {
        "auto without tuning": partial(ours.first_trial, base),
        "auto with one prompt": partial(ours.one_prompt, base),
        "auto without names of labels": partial(ours.nameless, base),
        "auto without the second encoder": lambda task, seed: ours.auto(_beside(base, sentences.E5), task, seed=seed),
    }
    named |= {f"auto {name}": partial(method, levers) for name, levers in ABLATION.items()}
    return {"auto": partial(method, {})} | named


def _sets(data: Path, draws: Sequence[tuple[str, int]]) -> dict[str, DataSet]:
    return {name: load(data, name) for name in sorted({name for name, _ in draws})}


def _measure(
    results: Results, sets: dict[str, DataSet], draws: Sequence[tuple[str, int]], methods: dict[str, Method]
) -> None:
    for name, k in draws:
        for method_name, method in methods.items():
            for seed in SEEDS:
                task = Task.draw(sets[name], k, seed)
                if _measured(method_name.split(" ")[0], task, k):
                    results.cell(f"{name}/{k}/{seed}/{method_name}", partial(_cell, task, seed, method))


def _measure_zero_shot(results: Results, data: Path, base: LanguageModel) -> None:
    for name, descriptions in DESCRIPTIONS.items():
        task = Task.draw(load(data, name), 0, 0)
        for method, given in (("zero_shot", {}), ("zero_shot_described", descriptions)):
            answer = partial(_zero_shot, base, given)
            results.cell(f"{name}/0/0/{method}", partial(_cell, task, 0, answer))


def _measure_planted(results: Results, data: Path, base: LanguageModel) -> None:
    for name in planted.SETS:
        for seed in SEEDS:
            task = Task.draw(load(data, name), planted.SHOTS, seed)
            results.cell(f"{name}/{planted.SHOTS}/{seed}/{planted.METHOD}", partial(planted.cell, base, task, seed))


def _zero_shot(base: LanguageModel, descriptions: dict[str, str], task: Task, _: int) -> Outcome:
    return plain.zero_shot(base, task, descriptions)


def _cell(task: Task, seed: int, method: Method) -> Cell:
    return {**method(task, seed).cell(task.truth), "threads": torch.get_num_threads()}


if __name__ == "__main__":
    cli()
