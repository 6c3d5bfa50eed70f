"""The tuning thread on a tiny base model, with a real store."""

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import redis
import torch

from app.contract.names import JobStatus
from app.contract.objects import Job
from app.contract.tuning import Example
from app.records.bodies import Bodies
from app.records.store import Records
from tests.submissions import EXAMPLES, MODEL, submission, sweep_up
from tests.waiting import eventually
from tests.worker.tiny import causal_model
from worker.artifacts import Artifacts
from worker.cpt.formats.bundle import load
from worker.device import Device
from worker.jobs.thread import TuningThread
from worker.models import LanguageModel

Start = Callable[..., TuningThread]


@pytest.fixture
def start(records: Records, base: LanguageModel, artifacts: Artifacts) -> Iterator[Start]:
    """Starts a tuning thread as another worker would."""
    threads: list[TuningThread] = []

    def begin(
        artifacts: Artifacts = artifacts,
        checkpoint_seconds: float = 0.2,
        device: Device | None = None,
        base: LanguageModel = base,
    ) -> TuningThread:
        name = f"worker-{len(threads) + 1}"
        thread = TuningThread(records, artifacts, device or Device(), {MODEL: base}, name, checkpoint_seconds, {})
        threads.append(thread)
        thread.start()
        return thread

    yield begin
    for thread in threads:
        thread.stop()
        thread.join(60)


class Held(Artifacts):
    """Artifacts of a worker that is frozen as it puts one, until `go`."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.reached, self.go = Event(), Event()

    def put(self, content: bytes, suffix: str = "") -> str:
        self.reached.set()
        assert self.go.wait(60)
        return super().put(content, suffix)


class HeldCheckpoints(Held):
    """Artifacts of a worker that is slow to write a checkpoint."""

    written = False

    def put_checkpoint(self, job_id: str, content: bytes) -> None:
        self.reached.set()
        assert self.go.wait(60)
        super().put_checkpoint(job_id, content)
        self.written = True


class Broken(Artifacts):
    """Artifacts on a disk that fails."""

    def put(self, content: bytes, suffix: str = "") -> str:
        raise OSError(errno.EIO, f"cannot write {len(content)} bytes{suffix}")


class Full(Artifacts):
    """Artifacts on a disk without room, until there is."""

    refused = 0
    room = Event()

    def put(self, content: bytes, suffix: str = "") -> str:
        if self.room.is_set():
            return super().put(content, suffix)
        self.refused += 1
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Exhausted(Artifacts):
    """Artifacts on a machine without memory."""

    def put(self, content: bytes, suffix: str = "") -> str:
        raise MemoryError(len(content), suffix)


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Held]:
    held = Held(f"file://{tmp_path}/artifacts")
    yield held
    held.go.set()


def submit(records: Records, steps: int = 3) -> tuple[str, str]:
    """Ids of a new context and of its job."""
    stored, job = records.of("default").contexts.submit(
        submission(hyperparameters={"steps": steps, "batch_size": 3, "learning_rate": 0.1})
    )
    return stored.context.id, job.id


def when(records: Records, job_id: str, status: str) -> Job:
    def look() -> Job | None:
        job = records.of("default").jobs.get(job_id)
        return job if job and job.status == status else None

    job = eventually(look, 60)
    assert job
    return job


def moving(records: Records, job_id: str) -> None:
    eventually(lambda: (job := records.of("default").jobs.get(job_id)) and job.progress.step > 0, 60)


def artifact_of(records: Records, context_id: str) -> str | None:
    stored = records.of("default").contexts.get(context_id)
    assert stored
    return stored.artifact


def files(folder: Path) -> list[Path]:
    """Artifacts and checkpoints, and parts of them; not the examples."""
    return [path for path in folder.rglob("*.safetensors*") if path.is_file()]


def test_queued_jobs_are_run_in_their_order(records: Records, artifacts: Artifacts, start: Start) -> None:
    submitted = [submit(records) for _ in range(3)]
    start()
    jobs = [when(records, job_id, "succeeded") for _, job_id in submitted]
    started = [job.started_at for job in jobs]
    assert started == sorted(started, key=str)
    for (context_id, _), job in zip(submitted, jobs, strict=True):
        assert (job.attempt, job.progress.step, job.progress.fraction) == (1, 3, 1.0)
        address = artifact_of(records, context_id)
        assert address
        assert load(artifacts.get(address)).metadata["context_id"] == context_id


def test_job_is_found_without_being_woken_for_and_sooner_when_woken(records: Records, start: Start) -> None:
    thread = start()
    _, unannounced = submit(records)
    when(records, unannounced, "succeeded")
    _, announced = submit(records)
    thread.wake()
    when(records, announced, "succeeded")


@pytest.mark.parametrize(("kind", "code"), [(Broken, "internal"), (Exhausted, "out_of_memory")])
def test_failing_job_tells_its_user_and_the_next_one_runs(
    records: Records, start: Start, tmp_path: Path, kind: type[Artifacts], code: str
) -> None:
    _, job_id = submit(records)
    start(kind(f"file://{tmp_path}/artifacts"))
    job = when(records, job_id, "failed")
    assert job.error
    assert job.error.code == code
    assert "bytes" not in job.error.message
    eventually(lambda: not files(tmp_path / "artifacts"))
    _, another = submit(records)
    when(records, another, "failed")


def test_job_that_its_model_cannot_be_tuned_with_fails_at_once_by_its_own_code(records: Records, start: Start) -> None:
    names = {"good": "\u00e9", "bad": "e\u0301"}
    examples = tuple(Example(text=one.text, label=names[one.label]) for one in EXAMPLES)
    _, job = records.of("default").contexts.submit(submission(examples=examples))
    start()
    failed = when(records, job.id, "failed")
    assert failed.error
    assert (failed.error.code, failed.attempt) == ("labels_indistinguishable", 1)


def test_record_that_cannot_be_read_does_not_hold_up_the_others(
    records: Records, client: redis.Redis, start: Start, tmp_path: Path
) -> None:
    context_id, broken = submit(records)
    bodies, spec = Bodies(f"file://{tmp_path}/artifacts"), '{"of": "another version"}'
    bodies.put(spec)
    client.hset(f"{{ct}}:t:default:context:{context_id}", "spec", bodies.address(spec))
    _, job_id = submit(records)
    start()
    when(records, job_id, "succeeded")
    assert when(records, broken, "failed").attempt == 1


def test_long_job_lets_a_short_one_by_and_goes_on(
    records: Records, client: redis.Redis, start: Start, artifacts: Artifacts
) -> None:
    _, long = submit(records, steps=10_000)
    start(checkpoint_seconds=0)
    moving(records, long)
    _, short = submit(records)
    client.hincrby(f"{{ct}}:t:default:job:{long}", "claimed_at", -60_000)  # as if held for a minute
    client.hincrby(f"{{ct}}:t:default:job:{short}", "queued_at", -60_000)
    when(records, short, "succeeded")
    step = when(records, long, "running").progress.step
    assert step > 0
    eventually(lambda: when(records, long, "running").progress.step > step, 60)
    assert when(records, long, "running").attempt == 1
    records.of("default").jobs.cancel(long)
    when(records, long, "cancelled")
    eventually(lambda: artifacts.get_checkpoint(long) is None)


def test_running_job_is_cancelled_and_leaves_nothing(records: Records, start: Start, tmp_path: Path) -> None:
    context_id, job_id = submit(records, steps=10_000)
    start()
    moving(records, job_id)
    eventually(lambda: files(tmp_path / "artifacts"))
    records.of("default").jobs.cancel(job_id)
    when(records, job_id, "cancelled")
    eventually(lambda: not files(tmp_path / "artifacts"))
    assert artifact_of(records, context_id) is None
    _, after = submit(records)
    when(records, after, "succeeded")


def test_job_whose_context_is_deleted_ends_and_leaves_nothing(records: Records, start: Start, tmp_path: Path) -> None:
    context_id, job_id = submit(records, steps=10_000)
    start()
    moving(records, job_id)
    records.of("default").contexts.delete(context_id)
    when(records, job_id, "cancelled")
    eventually(lambda: not files(tmp_path / "artifacts"))


def test_context_deleted_as_its_job_ends_leaves_no_artifact(
    records: Records, start: Start, held: Held, tmp_path: Path
) -> None:
    context_id, job_id = submit(records)
    start(held)
    assert held.reached.wait(60)
    records.of("default").contexts.delete(context_id)
    held.go.set()
    when(records, job_id, "cancelled")
    eventually(lambda: not files(tmp_path / "artifacts"))


def test_stopped_worker_gives_its_job_back_and_another_ends_it_as_if_unbroken(
    records: Records, artifacts: Artifacts, start: Start, tmp_path: Path
) -> None:
    context_id, job_id = submit(records, steps=10)
    slow = HeldCheckpoints(f"file://{tmp_path}/artifacts")
    first = start(slow, checkpoint_seconds=0)
    assert slow.reached.wait(60)
    first.stop()
    slow.go.set()
    first.join(30)
    given_back = records.of("default").jobs.get(job_id)
    assert given_back
    assert (given_back.status, given_back.attempt) == (JobStatus.QUEUED, 0)
    assert artifacts.get_checkpoint(job_id)
    start()
    assert when(records, job_id, "succeeded").attempt == 1
    eventually(lambda: artifacts.get_checkpoint(job_id) is None)
    other_id, unbroken = submit(records, steps=10)
    when(records, unbroken, "succeeded")
    resumed, whole = (load(artifacts.get(artifact_of(records, one) or "")) for one in (context_id, other_id))
    for mine, theirs in zip(resumed.prompts, whole.prompts, strict=True):
        assert mine.embeds.equal(theirs.embeds)


def test_worker_that_wakes_after_another_has_ended_its_job_changes_nothing(
    records: Records, client: redis.Redis, start: Start, artifacts: Artifacts, held: Held
) -> None:
    """Both end with the very same artifact, which the record names: it must stay."""
    context_id, job_id = submit(records)
    frozen = start(held)
    assert held.reached.wait(60)
    sweep_up(records, client, job_id)
    start()
    assert when(records, job_id, "succeeded").attempt == 2
    held.go.set()
    frozen.stop()
    frozen.join(30)
    assert load(artifacts.get(artifact_of(records, context_id) or ""))
    job = records.of("default").jobs.get(job_id)
    assert job
    assert job.status == "succeeded"


@pytest.mark.parametrize("stopped", [False, True])
def test_worker_that_wakes_with_a_checkpoint_of_a_job_that_has_ended_leaves_none(
    records: Records, client: redis.Redis, start: Start, artifacts: Artifacts, tmp_path: Path, stopped: bool
) -> None:
    _, job_id = submit(records, steps=10)
    slow = HeldCheckpoints(f"file://{tmp_path}/artifacts")
    frozen = start(slow, checkpoint_seconds=0)
    assert slow.reached.wait(60)
    sweep_up(records, client, job_id)
    start()
    when(records, job_id, "succeeded")
    if stopped:
        frozen.stop()
    slow.go.set()
    eventually(lambda: slow.written)
    eventually(lambda: artifacts.get_checkpoint(job_id) is None)


def test_worker_that_wakes_after_the_context_was_deleted_leaves_nothing(
    records: Records, client: redis.Redis, start: Start, held: Held, tmp_path: Path
) -> None:
    context_id, job_id = submit(records)
    frozen = start(held)
    assert held.reached.wait(60)
    sweep_up(records, client, job_id)
    records.of("default").contexts.delete(context_id)
    held.go.set()
    frozen.stop()
    frozen.join(30)
    assert files(tmp_path / "artifacts") == []


def messages(records: Records, job_id: str) -> list[str]:
    events = records.of("default").jobs.events(job_id)
    return [event.message for event in events if event.type == "message"]


def test_full_disk_is_waited_for_uncounted_and_said_in_the_job(records: Records, start: Start, tmp_path: Path) -> None:
    full = Full(f"file://{tmp_path}/artifacts")
    full.room = Event()
    context_id, job_id = submit(records)
    start(full)
    eventually(lambda: full.refused >= 2)
    full.room.set()
    assert when(records, job_id, "succeeded").attempt == 1
    assert artifact_of(records, context_id)
    assert messages(records, job_id) == [
        f"no room for the result ({os.strerror(errno.ENOSPC)}): waiting until there is"
    ]


def test_job_that_waits_for_room_is_cancelled_and_given_back_at_once(
    records: Records, start: Start, tmp_path: Path
) -> None:
    full = Full(f"file://{tmp_path}/artifacts")
    full.room = Event()
    _, job_id = submit(records)
    thread = start(full)
    eventually(lambda: full.refused)
    records.of("default").jobs.cancel(job_id)
    when(records, job_id, "cancelled")
    _, other = submit(records)
    before = full.refused
    eventually(lambda: full.refused > before)
    thread.stop()
    thread.join(30)
    given_back = records.of("default").jobs.get(other)
    assert given_back
    assert (given_back.status, given_back.attempt) == ("queued", 0)
    assert {path.parent.name for path in files(tmp_path / "artifacts")} <= {"checkpoints"}


def test_job_that_runs_out_of_memory_goes_on_in_smaller_chunks(
    records: Records, start: Start, base: LanguageModel
) -> None:
    """The model is one that has memory for 80 tokens at once where gradients are kept."""
    tight = replace(base, model=causal_model())
    for weight in tight.model.parameters():
        weight.requires_grad_(False)

    def run_out(_: object, given: tuple[torch.Tensor, ...]) -> None:
        if torch.is_grad_enabled() and given[0].requires_grad and given[0].shape[-2] > 80:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    tight.model.model.layers[0].mlp.register_forward_pre_hook(run_out)
    context_id, job_id = submit(records)
    start(base=tight)
    assert when(records, job_id, "succeeded").attempt == 1
    assert artifact_of(records, context_id)
    said = messages(records, job_id)
    assert said[0] == "memory ran out: going on in chunks of 256 tokens"
    assert said[-1] != said[0]


class Failing(Device):
    """A device that fails on the first work of a job."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self._words = words

    def run(self, compute: Callable[[], Any]) -> Any:  # noqa: ARG002 - Device's signature
        def fail() -> None:
            raise RuntimeError(f"CUDA error: {self._words}")

        return super().run(fail)


@pytest.mark.parametrize(
    ("words", "attempt"), [("an illegal memory access was encountered", 0), ("device-side assert triggered", 1)]
)
def test_job_on_a_device_that_fails_is_given_back_and_no_other_is_claimed(
    records: Records, start: Start, words: str, attempt: int
) -> None:
    _, job_id = submit(records)
    thread = start(device=Failing(words))
    eventually(lambda: not thread.alive)
    job = records.of("default").jobs.get(job_id)
    assert job
    assert (job.status, job.attempt) == ("queued", attempt)
    start()
    assert when(records, job_id, "succeeded").attempt == attempt + 1
