"""Tuning: a step and a whole job, ours and the reference's, and the memory that a step takes."""

from __future__ import annotations

from pathlib import Path

from benchmarks.flops import step_flops
from benchmarks.isolation import ask
from benchmarks.machine import Gemm
from benchmarks.measurement import Contender, interleaved, ratios, spread
from benchmarks.reference import ReferenceTuning
from benchmarks.results import Cell, Results
from benchmarks.settings import Settings
from benchmarks.subject import Subject, Task
from worker.cpt.tuning.tuner import Tuner, TuningSettings

#: Losses further apart than this (relative) are not of the same computation.
_TOLERANCE = 1e-4


class DifferentResultError(Exception):
    """Contenders do not compute the same."""


def measure(subject: Subject, settings: Settings, results: Results, cache: Path, data: Path) -> None:
    """All cells of tuning."""
    for examples in settings.examples:
        step = results.cell(f"step/{examples}", lambda k=examples: _step(subject, settings, k))  # type: ignore[misc]

        def memory(k: int = examples, micro_batch: int = step["micro_batch"]) -> Cell:
            return _memory(cache, data, k, micro_batch)

        results.cell(f"memory/{examples}", memory)
    results.cell(f"job/{settings.job_examples}", lambda: _job(subject, settings))


def tuner(subject: Subject, task: Task, steps: int = 20) -> Tuner:
    """Ours, with the reference's defaults."""
    return Tuner(subject.base.model, task.context, task.training, task.config, TuningSettings(steps=steps))


def _step(subject: Subject, settings: Settings, examples: int) -> Cell:
    task, rows = subject.task(examples), settings.rows_timed(examples)
    reference = ReferenceTuning(subject.plain_model(), task.config, task.training)
    reference.choose_micro_batch(rows)
    ours = tuner(subject, task)
    loss = ours.step()
    if rows == examples:
        _check_same(loss, reference.step())
    contenders: dict[str, Contender] = {"ours": ours.step, "peft": lambda: reference.step(rows), "gemm": Gemm()}
    seconds = interleaved(contenders, settings.rounds)
    peft = [one * examples / rows for one in seconds["peft"]]
    lengths = [len(tokens) for tokens in task.training]
    flops, rates = step_flops(subject.base.model, len(task.context), lengths), Gemm.rates(seconds["gemm"])
    return {
        "examples": examples,
        "labels": len({label for _, label in subject.texts.examples[:examples]}),
        "context_tokens": len(task.context),
        "example_tokens": sum(lengths),
        "micro_batch": reference.micro_batch,
        "rows_timed": rows,
        "ours": spread(seconds["ours"]),
        "peft": spread(peft),
        "speedup": ratios(peft, seconds["ours"]),
        "tflop": flops / 1e12,
        "gflops": spread([flops / one / 1e9 for one in seconds["ours"]]),
        "gemm_gflops": spread([rate / 1e9 for rate in rates]),
        "of_ideal": ratios(seconds["ours"], [flops / rate for rate in rates]),
    }


def _job(subject: Subject, settings: Settings) -> Cell:
    """A whole job, from tokens to the tuned delta."""
    task, model = subject.task(settings.job_examples), subject.plain_model()
    reference = ReferenceTuning(model, task.config, task.training)
    micro_batch = reference.choose_micro_batch(settings.job_examples)

    def ours() -> None:
        job = tuner(subject, task, settings.job_steps)
        for _ in range(settings.job_steps):
            job.step()

    def peft() -> None:
        job = ReferenceTuning(model, task.config, task.training, micro_batch)
        for _ in range(settings.job_steps):
            job.step()

    seconds = interleaved({"ours": ours, "peft": peft}, settings.rounds)
    return {
        "examples": settings.job_examples,
        "steps": settings.job_steps,
        "micro_batch": micro_batch,
        "ours": spread(seconds["ours"]),
        "peft": spread(seconds["peft"]),
        "speedup": ratios(seconds["peft"], seconds["ours"]),
    }


def _memory(cache: Path, data: Path, examples: int, micro_batch: int) -> Cell:
    """Bytes above the loaded model at the peak of one step, each contender in a process of its own."""
    ask_for = {"cache": str(cache), "data": str(data), "examples": examples, "micro_batch": micro_batch}
    ours = ask("benchmarks.memory", contender="ours", **ask_for)
    peft = ask("benchmarks.memory", contender="peft", **ask_for)
    return {"examples": examples, "micro_batch": micro_batch, "ours": ours, "peft": peft, "ratio": peft / ours}


def _check_same(ours: float, theirs: float) -> None:
    if abs(ours / theirs - 1) > _TOLERANCE:
        raise DifferentResultError(f"the first loss is {ours} here and {theirs} in PEFT")
