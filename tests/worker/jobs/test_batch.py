"""Batches on a tiny base model, with a real store: what stands in results and errors, resuming, ends."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import redis
import torch

from app.contract.batches import MAX_LINE_BYTES, Batch, BatchOptions, BatchSpec
from app.jobs.ending import delete
from app.records.batches import BatchSubmission
from app.records.connection import new_id
from app.records.files import ArtifactsUnavailable
from app.records.store import Records, TenantRecords
from tests.app.records.steps import REPORT, claim
from tests.submissions import EXAMPLES, MODEL, submission, sweep_up
from tests.waiting import eventually
from tests.worker.tiny import CONTEXT_LENGTH, stored_context
from worker.artifacts import Artifacts
from worker.classification.preparing import prepare
from worker.classification.resident import ResidentContexts
from worker.device import Device
from worker.evaluation.figures import confusion_matrix, evaluate
from worker.jobs import batch_run
from worker.jobs.thread import TuningThread
from worker.models import LanguageModel

LABELS = ("good", "bad")


@dataclass
class Place:
    """A store with a context that can answer, and workers on demand."""

    records: Records
    base: LanguageModel
    artifacts: Artifacts
    context_id: str
    artifact: str
    threads: list[TuningThread]

    @property
    def tenant(self) -> TenantRecords:
        return self.records.of("default")

    @property
    def residents(self) -> ResidentContexts:
        return ResidentContexts(self.artifacts, partial(prepare, self.base), 2**20)

    def submit(self, lines: Sequence[bytes | dict[str, Any]], artifact: str | None = None, **options: Any) -> str:
        job_id = new_id("job")
        upload = self.tenant.batches.upload(job_id)
        for line in lines:
            upload.write((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n")
        spec = BatchSpec(
            artifact=artifact or self.artifact, served="tuned", target_error=0.05, options=BatchOptions(**options)
        )
        wanted = BatchSubmission(self.context_id, MODEL, spec, len(lines))
        self.tenant.batches.submit(job_id, wanted, upload, None)
        return job_id

    def start(
        self, artifacts: Artifacts | None = None, device: Device | None = None, chunk_seconds: float = 0
    ) -> TuningThread:
        name, bases = f"worker-{len(self.threads)}", {MODEL: self.base}
        used = artifacts or self.artifacts, device or Device(), bases, name, chunk_seconds, {MODEL: self.residents}
        thread = TuningThread(self.records, *used)
        self.threads.append(thread)
        thread.start()
        return thread

    def get(self, job_id: str) -> Batch:
        batch = self.tenant.batches.get(job_id)
        assert batch
        return batch

    def ended(self, job_id: str) -> Batch:
        return eventually(lambda: (batch := self.get(job_id)).terminal and batch, 60) or self.get(job_id)

    def content(self, job_id: str, what: str) -> bytes:
        done = self.tenant.batches.done(job_id)
        assert done
        addresses = [address for chunk in done.chunks if (address := getattr(chunk, what))]
        return b"".join(self.artifacts.get(address) for address in addresses)

    def rows(self, job_id: str, what: str = "results") -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.content(job_id, what).splitlines()]


@pytest.fixture
def place(records: Records, base: LanguageModel, artifacts: Artifacts) -> Iterator[Place]:
    stored, _ = records.of("default").contexts.submit(submission("intents"))
    artifact = stored_context(base, artifacts, submission().spec)
    assert records.finish_succeeded(claim(records), artifact, REPORT, {}) == "succeeded"
    place = Place(records, base, artifacts, stored.context.id, artifact, [])
    yield place
    for thread in place.threads:
        thread.stop()
        thread.join(60)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups of five lines, each of them a chunk."""
    monkeypatch.setattr(batch_run, "_GROUP_LINES", 5)


def texts(count: int) -> list[dict[str, Any]]:
    return [{"id": f"line {number}", "text": f"{number} {EXAMPLES[number % 4].text}"} for number in range(count)]


def test_each_line_has_a_result_or_an_error(place: Place) -> None:
    """Bad lines of every kind stand in the errors alone, and touch no other."""
    fine: list[bytes | dict[str, Any]] = [{"text": "great film"}, {"text": "awful plot", "id": 2, "label": None}]
    bad: list[tuple[bytes | dict[str, Any], str | None, str]] = [
        (b"{not json", None, "invalid_json"),
        (b'"a text"', None, "invalid_request"),
        (b"\xff\xfe", None, "invalid_json"),
        ({"id": "no text"}, "no text", "invalid_request"),
        ({"text": 5}, None, "invalid_request"),
        ({"text": "  ", "id": 7}, "7", "text_empty"),
        ({"text": "  ", "id": ["7"]}, None, "text_empty"),
        ({"text": "a\0b"}, None, "text_invalid"),
        (b'{"text": "\\ud800"}', None, "invalid_json"),
        ({"text": "x" * 100_001}, None, "text_too_long"),
        ((b'{"text": "' + b"x" * MAX_LINE_BYTES)[: MAX_LINE_BYTES + 1], None, "text_too_long"),
        ({"text": "x", "other": 1, "id": "more"}, "more", "invalid_request"),
        ({"text": "x", "label": ["good"]}, None, "multi_label_unsupported"),
        ({"text": "x", "label": "ugly", "id": "unknown"}, "unknown", "label_unknown"),
        ({"text": "x" * CONTEXT_LENGTH, "id": "long"}, "long", "input_too_long"),
    ]
    job_id = place.submit([fine[0], *(line for line, _, _ in bad), fine[1]])
    place.start()
    batch = place.ended(job_id)
    assert (batch.status, batch.counts.total, batch.counts.done, batch.counts.failed) == ("succeeded", 17, 2, 15)
    assert (batch.progress.step, batch.progress.fraction, batch.report) == (17, 1.0, None)
    assert batch.expires_at
    assert batch.finished_at
    assert (batch.expires_at - batch.finished_at).days == 30
    errors = place.rows(job_id, "errors")
    assert [(row["index"], row["id"], row["code"]) for row in errors] == [
        (index, line_id, code) for index, (_, line_id, code) in enumerate(bad, 1)
    ]
    assert all(row["message"] and "ugly" not in row["message"] for row in errors)
    first, second = place.rows(job_id)
    assert (first["index"], first["id"], second["index"], second["id"]) == (0, None, 16, "2")
    for row in (first, second):
        assert list(row["labels"]) == [row["prediction"]]
        assert row["labels"][row["prediction"]]["confidence"] == row["confidence"] > 0.5
    (usage,) = place.tenant.usage.days()
    assert usage.inputs == 2
    assert usage.input_tokens > 0


def test_options_are_those_of_a_request_to_classify(place: Place) -> None:
    long = {"text": "x" * 2 * CONTEXT_LENGTH}
    job_id = place.submit([{"text": "great film"}, long], truncate="END", min_confidence=1.0, top_k=5, exact=True)
    place.start()
    assert place.ended(job_id).counts.done == 2
    for row in place.rows(job_id):
        assert (row["prediction"], row["abstained"], set(row["labels"])) == (None, True, set(LABELS))
        confidences = [label["confidence"] for label in row["labels"].values()]
        assert confidences == sorted(confidences, reverse=True)
        assert sum(confidences) == pytest.approx(1)


def test_labelled_lines_end_with_the_figures_of_a_report(place: Place, small_chunks: None) -> None:
    lines = [{**line, "label": LABELS[number % 3 == 0]} for number, line in enumerate(texts(40))]
    job_id = place.submit([*lines, *texts(3)], top_k=2)
    place.start()
    report = place.ended(job_id).report
    assert report
    rows = place.rows(job_id)[: len(lines)]
    probabilities = torch.tensor(
        [[row["labels"][label]["confidence"] for label in LABELS] for row in rows], dtype=torch.float64
    )
    truth = torch.tensor([LABELS.index(line["label"]) for line in lines])
    assert report.tuned == evaluate(probabilities, truth)
    assert report.confusion_matrix == confusion_matrix(probabilities, truth)
    assert report.per_label
    assert report.per_label["bad"].n == 14
    assert report.verdict
    assert (report.served, report.measured_on) == ("tuned", "batch")
    assert place.tenant.batches.page(1).data[0].report is None


@pytest.mark.parametrize(("rare", "decision"), [(1, "serve"), (5, "more_examples")])
def test_a_label_that_was_missed_often_enough_is_no_reason_to_serve(place: Place, rare: int, decision: str) -> None:
    """All lines are answered as one label; a few have the other one."""
    job_id = place.submit([{"text": "a great film"}])
    place.start()
    assert place.ended(job_id).counts.done == 1
    mine = place.rows(job_id)[0]["prediction"]
    other = next(label for label in LABELS if label != mine)
    lines = [{"text": "a great film", "label": label} for label in [mine] * 300 + [other] * rare]
    report = place.ended(place.submit(lines)).report
    assert report
    assert report.verdict
    assert report.verdict.decision == decision


class Dies(Artifacts):
    """Artifacts of a worker that dies as it stores its third chunk: whatever it does then is too late."""

    def __init__(self, root: str, die: Callable[[], None]) -> None:
        super().__init__(root)
        self._die = die
        self._stored = 0

    def put(self, content: bytes, suffix: str = "") -> str:
        self._stored += 1
        if self._stored == 3:
            self._die()
        return super().put(content, suffix)


def test_worker_that_is_lost_leaves_its_chunks_and_another_ends_as_if_unbroken(
    place: Place, client: redis.Redis, small_chunks: None, tmp_path: Any
) -> None:
    unbroken, job_id = place.submit(texts(33)), ""
    first = place.start()
    whole = place.content(place.ended(unbroken).id, "results")
    first.stop()
    first.join(60)

    def die() -> None:
        sweep_up(place.records, client, job_id)

    job_id = place.submit(texts(33))
    lost = place.start(Dies(f"file://{tmp_path}/artifacts", die))
    eventually(lambda: place.get(job_id).terminal or place.get(job_id).attempt == 2, 60)
    lost.stop()
    lost.join(60)
    place.start()
    batch = place.ended(job_id)
    assert (batch.status, batch.counts.done, batch.attempt >= 2) == ("succeeded", 33, True)
    assert place.content(job_id, "results") == whole
    assert len(whole.splitlines()) == 33


class Stops(Device):
    """The device of a worker that is stopped as it begins its third group."""

    asked = 0
    stop_worker: Callable[[], None]

    def run(self, compute: Callable[[], Any]) -> Any:
        self.asked += 1
        if self.asked == 3:
            self.stop_worker()
        return super().run(compute)


def test_stopped_worker_keeps_what_it_has_answered_and_gives_the_batch_back(place: Place, small_chunks: None) -> None:
    device = Stops()
    worker = place.start(device=device, chunk_seconds=1000)
    device.stop_worker = worker.stop
    job_id = place.submit(texts(33))
    worker.wake()
    worker.join(60)
    given_back = place.get(job_id)
    assert (given_back.status, given_back.attempt, given_back.counts.done) == ("queued", 0, 10)
    place.start()
    assert place.ended(job_id).counts.done == 33
    assert [row["index"] for row in place.rows(job_id)] == list(range(33))


def test_running_batch_is_cancelled_and_what_is_answered_stays_until_it_is_deleted(
    place: Place, client: redis.Redis, small_chunks: None, tmp_path: Any
) -> None:
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    kept = client.get("{ct}:t:default:artifact_bytes")
    job_id = place.submit(texts(5000))
    place.start()
    eventually(lambda: place.get(job_id).counts.done >= 10, 60)
    place.tenant.jobs.cancel(job_id)
    batch = place.ended(job_id)
    assert batch.status == "cancelled"
    assert len(place.rows(job_id)) == batch.counts.done < 5000
    assert delete(place.tenant, f"file://{tmp_path}/artifacts", job_id) is None
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before
    assert place.tenant.batches.get(job_id) is None
    assert place.tenant.batches.done(job_id) is None
    assert client.get("{ct}:t:default:artifact_bytes") == kept
    assert not [key for key in client.keys("*") if job_id in key]


def test_long_batch_lets_a_short_job_by_and_goes_on(place: Place, client: redis.Redis, small_chunks: None) -> None:
    job_id = place.submit(texts(20_000))
    place.start()
    eventually(lambda: place.get(job_id).counts.done >= 5, 60)
    short = place.submit(texts(5))
    client.hset("{ct}:t:default:job:" + short, "estimate", 1)
    client.zadd("{ct}:estimates:tiny", {f"default:{short}": 1})
    client.hincrby(f"{{ct}}:t:default:job:{job_id}", "claimed_at", -60_000)
    client.hincrby(f"{{ct}}:t:default:job:{short}", "queued_at", -60_000)
    assert place.ended(short).status == "succeeded"
    done = place.get(job_id).counts.done
    assert not place.get(job_id).terminal
    eventually(lambda: place.get(job_id).counts.done > done, 60)
    assert place.get(job_id).attempt == 1
    place.tenant.jobs.cancel(job_id)
    place.ended(job_id)


def test_context_that_cannot_answer_fails_the_batch_with_the_reason(place: Place) -> None:
    other = stored_context(place.base, place.artifacts, submission().spec, delta=0.5)
    lost, damaged = place.submit(texts(3), artifact="0" * 64), place.submit(texts(3), artifact=other)
    place.artifacts.remove(other)
    place.start()
    for job_id in (lost, damaged):
        batch = place.ended(job_id)
        assert batch.status == "failed"
        assert batch.error
        assert (batch.error.code, batch.attempt) == ("artifact_corrupt", 1)


def test_upload_that_is_given_up_leaves_nothing(place: Place, client: redis.Redis, tmp_path: Any) -> None:
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    upload = place.tenant.batches.upload("job_1")
    upload.write(b"{}\n")
    assert len({path for path in tmp_path.rglob("*") if path.is_file()}) == len(before) + 1
    upload.discard()
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before
    assert client.zcard("{ct}:pending") == client.zcard("{ct}:collecting") == 0


def test_uploads_need_their_file_system(client: redis.Redis) -> None:
    records = Records(client, artifacts_url="unheard-of://bucket")
    with pytest.raises(ArtifactsUnavailable):
        records.of("default").batches.upload("job_1")
    assert client.zcard("{ct}:pending") == 0
