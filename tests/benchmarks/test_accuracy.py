"""The accuracy benchmark's own work, on a tiny base model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from app.contract.tuning import Hyperparameters
from benchmarks.accuracy import ours, report
from benchmarks.accuracy.__main__ import ABLATION
from benchmarks.accuracy.cells import Cell, Outcome, Task
from benchmarks.results import Results
from tests.worker.tiny import base_model, sentence_encoder
from worker.models import LanguageModel

WORDS = {"good": ("fine", "great", "lovely", "splendid"), "bad": ("awful", "dull", "poor", "boring")}
ROWS = [(f"a {words[number]} film", label) for number in range(4) for label, words in WORDS.items()]
TASK = Task(("bad", "good"), ROWS * 2, [(f"{text} indeed", label) for text, label in ROWS])


@pytest.fixture(scope="module")
def base() -> LanguageModel:
    return base_model(0, sentence_encoder())


@pytest.fixture(scope="module")
def usual(base: LanguageModel) -> Outcome:
    return ours.auto(base, TASK, seed=0)


@pytest.mark.parametrize("levers", ABLATION.values())
def test_levers_are_hyperparameters(levers: dict[str, Any]) -> None:
    assert Hyperparameters(**levers) != Hyperparameters()


def test_regressions_learn_the_names_of_labels_unless_told_otherwise(base: LanguageModel, usual: Outcome) -> None:
    assert not torch.equal(ours.nameless(base, TASK, 0).probabilities, usual.probabilities)


@pytest.mark.parametrize(("levers", "steps", "prompts"), [(ours.first_trial, 0, 2), (ours.one_prompt, 6, 1)])
def test_levers_change_the_trials_that_they_name(
    base: LanguageModel, levers: Callable[[LanguageModel, Task, int], Outcome], steps: int, prompts: int
) -> None:
    found = levers(base, TASK, 0)
    torch.testing.assert_close(found.probabilities.sum(1), torch.ones(len(TASK.test), dtype=torch.float64))
    detail = found.detail
    assert (detail["trials"][-1][0], detail["prompts"]) == (steps, prompts)


def test_tables_tell_of_what_was_measured(usual: Outcome, tmp_path: Path) -> None:
    results = Results(tmp_path / "results.json", {"protocol": 2}, fresh=True)

    def measured() -> Cell:
        return usual.cell(TASK.truth)

    for seed in range(3):
        for method in ("auto", "auto without tuning", "minilm"):
            results.cell(f"trec/4/{seed}/{method}", measured)
    written = report.tables(Results(tmp_path / "results.json", {"protocol": 2}, fresh=False).cells)
    accuracy = f"{100 * results.cells['trec/4/0/auto']['accuracy']:.1f}"
    assert f"| **ours, auto** | - | {accuracy} (" in written
    assert "| auto without tuning |" in written
    assert "as accurate as its best peer in 1, and significantly less accurate in 0;" in written
