"""What `auto` costs: ``python -m benchmarks.learning [SIZE | query]``, alone on the machine.

A size is examples x labels: 200x2 are of SST-2, 385x77 of Banking77, 10000x20 made of threes of Banking77's texts. Of
each it tells the seconds until the classifier is there, the peak of memory above the loaded models, and the accuracy
on 200 other rows. `query` compares a query with all parts to label scores alone under the same prompts, and 77 labels
to 2.
"""

from __future__ import annotations

import random
import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import typer

from benchmarks.accuracy.__main__ import load_base
from benchmarks.accuracy.cells import Task, seconds_clock
from benchmarks.accuracy.ours import Learned, learned_from
from benchmarks.accuracy.protocol import Rows, load
from benchmarks.memory import peak_above_now
from worker.cpt.scoring.classifier import Classifier
from worker.cpt.scoring.mixture import prior_mixture
from worker.cpt.scoring.predict import Predictor

DATA: Final = Path(__file__).parents[2] / "shared" / "data"
_TEST_ROWS: Final = 200
_MADE_UP: Final = 10_000
_ROUNDS: Final = 5
_MEBIBYTE: Final = 1 << 20

cli = typer.Typer(name="benchmarks.learning", add_completion=False, pretty_exceptions_enable=False)


@cli.command()
def main(
    parts: Annotated[
        list[str] | None, typer.Argument(help="200x2, 385x77, 10000x20, 10000x77 or query; all if none")
    ] = None,
    data: Annotated[Path, typer.Option(help="folder of the data sets")] = DATA,
    seconds: Annotated[float | None, typer.Option(help="max_seconds of each job in place of auto")] = None,
) -> None:
    """Measure, and print."""
    base = load_base()
    given = {"method": "auto"} | ({} if seconds is None else {"max_seconds": seconds})
    learned: dict[str, Learned] = {}
    for name in (one for one in parts or [*_TASKS, "query"] if one != "query"):
        task = _TASKS[name](data)
        task = replace(task, test=task.test[:_TEST_ROWS])
        now = seconds_clock()
        started = now()
        peak = peak_above_now(lambda: learned.update({name: learned_from(base, task, given)}))  # noqa: B023 - at once
        taken = now() - started
        right = learned[name].probabilities([text for text, _ in task.test]).argmax(1) == task.truth
        statuses = ", ".join(f"{one.trial.steps} steps {one.status}" for one in learned[name].found.outcomes)
        print(
            f"{name}: {taken:.0f} s, {peak / _MEBIBYTE:.0f} MiB above the models, "
            f"{100 * right.double().mean():.1f}% of {len(right)} ({statuses})",
            flush=True,
        )
    if not parts or "query" in parts:
        for name in ("200x2", "385x77"):
            if name not in learned:
                learned[name] = learned_from(base, _TASKS[name](data), given)
        _compare_queries(learned["200x2"], learned["385x77"], [text for text, _ in load(data, "banking77_all").test])


def _made_up(data: Path, name: str) -> Task:
    """The labels of a set, each with texts made of three of its own."""
    source = load(data, name)
    generator = random.Random(0)
    texts: dict[str, list[str]] = defaultdict(list)
    for text, label in source.train:
        texts[label].append(text)
    rows: Rows = []
    for label in source.labels:
        for _ in range(_MADE_UP // len(source.labels)):
            rows.append((" ".join(generator.sample(texts[label], 3)), label))
    generator.shuffle(rows)
    return Task(source.labels, rows, source.test)


_TASKS: Final[dict[str, Callable[[Path], Task]]] = {
    "200x2": lambda data: Task.draw(load(data, "sst2_sent"), 100, 0),
    "385x77": lambda data: Task.draw(load(data, "banking77_all"), 5, 0),
    "10000x20": lambda data: _made_up(data, "banking77"),
    "10000x77": lambda data: _made_up(data, "banking77_all"),
}


def _compare_queries(few: Learned, many: Learned, texts: list[str]) -> None:
    """Milliseconds a query, medians of rounds in which all take turns, and the ratio to the first of the same round."""
    for count in (1, 32):
        contenders = {
            "label scores alone, 2 labels": _of_scores_alone(few),
            "all parts, 2 labels": few,
            "all parts, 77 labels": many,
            "all parts, 77 labels, exact": replace(many, predictor=_exact(many.predictor)),
        }
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        for turn in range(_ROUNDS if count > 1 else 4 * _ROUNDS):
            some = [texts[(turn * count + place) % len(texts)] for place in range(count)]
            for name, one in contenders.items():
                now = seconds_clock()
                started = now()
                one.probabilities(some)
                seconds[name].append((now() - started) / count)
        first = seconds["label scores alone, 2 labels"]
        for name, taken in seconds.items():
            ratio = statistics.median(one / alone for one, alone in zip(taken, first, strict=True))
            print(
                f"{count} at once, {name}: {1000 * statistics.median(taken):.0f} ms a query, {ratio:.2f}x", flush=True
            )


def _of_scores_alone(learned: Learned) -> Learned:
    classifier = learned.predictor.classifier
    assert classifier is not None
    labels = len(classifier.score_bias[0])
    alone = Classifier(classifier.score_bias, prior_mixture([1.0], labels))
    return replace(learned, predictor=replace(learned.predictor, classifier=alone))


def _exact(predictor: Predictor) -> Predictor:
    classifier = predictor.classifier
    assert classifier is not None
    return replace(predictor, classifier=replace(classifier, shortlist=None, cheap=None))


if __name__ == "__main__":
    cli()
