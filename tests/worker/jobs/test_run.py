"""Runs of a job on a tiny base model, with real records."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from threading import Event
from typing import Any

import pytest

from app.contract.tuning import Example
from app.records.claims import TuningClaim
from app.records.connection import new_id
from app.records.store import Records
from tests.submissions import MODEL, submission
from worker.artifacts import Artifacts
from worker.cpt.formats.bundle import load
from worker.device import Device
from worker.jobs.lease import Cancelled, Lease, Stopping
from worker.jobs.run import JobRun, Result
from worker.models import LanguageModel

VALIDATION = (Example(text="fine acting", label="good"), Example(text="dull", label="bad"))
STEPS = 6


class StoppingAfter(Lease):
    """A lease whose worker is asked to stop once ``steps`` steps are done."""

    steps = 0

    def note(
        self,
        fields: dict[str, str | int | float],
        remaining_seconds: float | None,
        metrics: dict[str, Any] | None = None,
    ) -> None:
        super().note(fields, remaining_seconds, metrics)
        if int(fields["step"]) >= self.steps:
            self.stopping.set()


def claimed(records: Records, **changes: Any) -> TuningClaim:
    hyperparameters = {"steps": STEPS, "batch_size": 3, "learning_rate": 0.1, **changes.pop("hyperparameters", {})}
    records.of("default").contexts.submit(submission(hyperparameters=hyperparameters, **changes))
    claim = records.claim([MODEL], new_id("worker"))
    assert isinstance(claim, TuningClaim)
    return claim


@contextmanager
def leased(records: Records, claim: TuningClaim, steps: int | None = None) -> Iterator[Lease]:
    kind = Lease if steps is None else StoppingAfter
    lease = kind(records, claim, Event())
    if isinstance(lease, StoppingAfter):
        lease.steps = steps or 0
    with lease:
        yield lease


def run(
    records: Records,
    claim: TuningClaim,
    base: LanguageModel,
    artifacts: Artifacts,
    every: float = 1e9,
    steps: int | None = None,
) -> Result:
    with leased(records, claim, steps) as lease:
        return JobRun(claim, base, artifacts, Device(), lease).to_end(every)


def test_result_holds_the_tuned_context(records: Records, base: LanguageModel, artifacts: Artifacts) -> None:
    claim = claimed(records)
    result = run(records, claim, base, artifacts)
    assert len(result.report.loss_curve) == STEPS
    assert result.report.loss_curve[-1] < result.report.loss_curve[0]
    assert (result.report.served, result.report.icl, result.report.tuned) == ("tuned", None, None)
    assert (result.fields["step"], result.fields["fraction"]) == (STEPS, 1.0)
    assert int(result.fields["trained_tokens"]) > 0
    tuned = load(result.content)
    assert tuned.metadata["context_id"] == claim.context_id
    assert tuned.metadata["labels"] == ["good", "bad"]
    assert tuned.metadata["model_sha256"] == base.fingerprint
    (prompt,) = tuned.prompts
    assert prompt.delta.abs().sum() > 0


def test_same_job_gives_the_same_bytes(records: Records, base: LanguageModel, artifacts: Artifacts) -> None:
    claim = claimed(records)
    assert run(records, claim, base, artifacts) == run(records, claim, base, artifacts)


@pytest.mark.parametrize("broken_after", [0, 1, 4])
def test_resumed_job_gives_what_an_unbroken_one_gives(
    records: Records, base: LanguageModel, artifacts: Artifacts, broken_after: int
) -> None:
    claim = claimed(records, validation_examples=VALIDATION)
    unbroken = run(records, claim, base, artifacts)
    with pytest.raises(Stopping):
        run(records, claim, base, artifacts, steps=broken_after)
    assert artifacts.get_checkpoint(claim.job_id)
    assert run(records, claim, base, artifacts) == unbroken


def test_job_goes_on_from_the_checkpoint_of_a_worker_that_died(
    records: Records, base: LanguageModel, artifacts: Artifacts
) -> None:
    claim = claimed(records)
    unbroken = run(records, claim, base, artifacts, every=0)  # which leaves its last checkpoint behind
    assert artifacts.get_checkpoint(claim.job_id)
    with leased(records, claim, steps=0) as lease:  # a worker that may not do a single step
        resumed = JobRun(claim, base, artifacts, Device(), lease).to_end(0)
    assert resumed == unbroken


def test_checkpoint_of_another_model_dtype_device_or_format_is_not_gone_on_from(
    records: Records, base: LanguageModel, artifacts: Artifacts
) -> None:
    claim = claimed(records)
    run(records, claim, base, artifacts, every=0)
    retrained = replace(base, fingerprint="f" * 64)
    rounded = replace(base, model=deepcopy(base.model).bfloat16())
    checkpoint = artifacts.get_checkpoint(claim.job_id) or b""
    for other in (retrained, rounded, base):
        if other is base:
            older = re.sub(rb'"format":"\d"', b'"format":"0"', checkpoint)
            assert older != checkpoint
            artifacts.put_checkpoint(claim.job_id, older)
        with leased(records, claim, steps=0) as lease, pytest.raises(Stopping):
            JobRun(claim, other, artifacts, Device(), lease).to_end(0)


def test_cancelled_job_ends_between_two_chunks(records: Records, base: LanguageModel, artifacts: Artifacts) -> None:
    claim = claimed(records, hyperparameters={"steps": 10_000})
    records.of("default").jobs.cancel(claim.job_id)
    with leased(records, claim) as lease, pytest.raises(Cancelled):
        JobRun(claim, base, artifacts, Device(), lease).to_end(1e9)


def test_validation_examples_are_measured_with_and_without_tuning(
    records: Records, base: LanguageModel, artifacts: Artifacts
) -> None:
    examples = tuple(Example(text=f"film number {number}", label="good") for number in range(40))
    claim = claimed(records, validation_examples=examples)
    metrics = run(records, claim, base, artifacts).report
    assert metrics.icl
    assert metrics.tuned
    assert (metrics.icl.n, metrics.tuned.n) == (40, 40)
    assert metrics.icl.nll != metrics.tuned.nll
    told = [event.message for event in records.of("default").jobs.events(claim.job_id)]
    assert "measuring 40 validation examples" in told


@pytest.mark.parametrize("radius", ["projection_epsilon", "projection_format_epsilon"])
def test_tokens_may_be_left_as_they_are(
    records: Records, base: LanguageModel, artifacts: Artifacts, radius: str
) -> None:
    result = run(records, claimed(records, hyperparameters={radius: 0.0}), base, artifacts)
    use = result.report.epsilon_use["input" if radius == "projection_epsilon" else "input_template"]
    assert use.max <= 1.0


def test_icl_tunes_nothing(records: Records, base: LanguageModel, artifacts: Artifacts) -> None:
    claim = claimed(records, validation_examples=VALIDATION, hyperparameters={"method": "icl"})
    result = run(records, claim, base, artifacts)
    assert load(result.content).prompts[0].delta.abs().sum() == 0
    assert (result.report.served, result.report.tuned, result.report.loss_curve) == ("icl", None, ())
    assert result.report.icl
    assert result.fields["fraction"] == 1.0


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"learning_rate": 0.05},
        {"batch_size": 2},
        {"projection_epsilon": 0.01},
        {"projection_format_epsilon": 0.01},
        {"weighted_loss_type": "decay", "loss_decay_factor": 0.5},
        {"leave_one_out": True},
    ],
)
def test_every_hyperparameter_has_an_effect(
    records: Records, base: LanguageModel, artifacts: Artifacts, changes: dict[str, Any]
) -> None:
    usual = load(run(records, claimed(records), base, artifacts).content)
    other = load(run(records, claimed(records, hyperparameters=changes), base, artifacts).content)
    assert other.prompts[0].delta.ne(usual.prompts[0].delta).any()


def test_training_examples_are_trained_on_but_stay_out_of_the_context(
    records: Records, base: LanguageModel, artifacts: Artifacts
) -> None:
    more = (Example(text="what a film", label="good"),)
    usual = run(records, claimed(records), base, artifacts)
    extended = run(records, claimed(records, training_examples=more), base, artifacts)
    assert load(usual.content).prompts[0].tokens == load(extended.content).prompts[0].tokens
    assert usual.report.loss_curve != extended.report.loss_curve


def test_checkpoint_that_memory_does_not_suffice_for_is_kept(
    records: Records, base: LanguageModel, artifacts: Artifacts
) -> None:
    claim = claimed(records)
    unbroken = run(records, claim, base, artifacts)
    with pytest.raises(Stopping):
        run(records, claim, base, artifacts, steps=1)
    lacking = [RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")]

    def run_out(*_: object) -> None:
        if lacking:
            raise lacking.pop()

    hook = base.model.get_input_embeddings().register_forward_pre_hook(run_out)
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        run(records, claim, base, artifacts)
    hook.remove()
    assert run(records, claim, base, artifacts) == unbroken


LISTED = b'{"__metadata__": []}'


@pytest.mark.parametrize("content", [b"", b"junk", b"\x02\0\0\0\0\0\0\0{}", len(LISTED).to_bytes(8, "little") + LISTED])
def test_checkpoint_that_cannot_be_used_is_passed_over(
    records: Records, base: LanguageModel, artifacts: Artifacts, content: bytes
) -> None:
    claim = claimed(records)
    artifacts.put_checkpoint(claim.job_id, content)
    assert (
        run(records, claim, base, artifacts).report.loss_curve
        == run(records, claimed(records), base, artifacts).report.loss_curve
    )
