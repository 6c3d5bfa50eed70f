"""A whole worker but for Celery: a tiny base model from a folder, on a real store and a real bus."""

import ctypes
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any, cast

import pytest
import redis
from transformers import Gemma2Config, OPTConfig, OPTForCausalLM

from app.contract.announcements import KEYS
from app.contract.messages import Announcement, ClassifyBatch, ClassifyReply, PlanReply, PlanRequest
from app.contract.tuning import TuningSpec
from app.contract.version import VERSION
from app.records.store import Records
from tests.submissions import EXAMPLES, MODEL, submission
from tests.waiting import eventually
from tests.worker.hearing import CHANNEL, heard
from tests.worker.tiny import CONTEXT_LENGTH, base_model, causal_model, classifier, part, stored_context, tokenizer
from worker.artifacts import Artifacts
from worker.classification.preparing import prepare
from worker.config import ModelSource, WorkerSettings
from worker.devices import NoSuchDevice
from worker.host import Host


@pytest.fixture
def settings(store_url: str, bus_url: str, tmp_path: Path) -> WorkerSettings:
    causal_model().save_pretrained(tmp_path / "model")
    tokenizer().save_pretrained(tmp_path / "model")
    models = {MODEL: ModelSource(path=str(tmp_path / "model"), device="cpu")}
    return WorkerSettings(store_url=store_url, bus_url=bus_url, data_dir=tmp_path, models=models, encoder="none")


@pytest.fixture
def host(settings: WorkerSettings) -> Iterator[Host]:
    host = Host(settings)
    host.load()
    host.start()
    yield host
    host.stop()


def announced(client: redis.Redis) -> list[Announcement]:
    values = cast("list[str]", client.hvals(KEYS[0]))
    return [Announcement.model_validate_json(value) for value in values]


def plan_request(client: redis.Redis, address: str) -> str:
    seconds, _ = client.time()
    request = PlanRequest(id="plan_1", reply_to=CHANNEL, expires_at=seconds + 60, model=MODEL, spec=address)
    return request.model_dump_json()


def batch(client: redis.Redis, artifact: str) -> str:
    seconds, _ = client.time()
    parts = (part(artifact, "a film", "another"),)
    request = ClassifyBatch(
        id="batch_1", reply_to=CHANNEL, expires_at=seconds + 60, model=MODEL, small=True, parts=parts
    )
    return request.model_dump_json()


def test_loaded_worker_announces_its_model(host: Host, bus_client: redis.Redis) -> None:
    (one,) = eventually(lambda: [each for each in announced(bus_client) if each.ready])
    assert (one.model, one.context_length, one.resident_contexts) == (MODEL, CONTEXT_LENGTH, 0)


def test_worker_announces_the_release_that_runs_not_one_installed_over_it(
    settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.metadata.Distribution.version", "9.9")
    assert [one.release for one in Host(settings)._announcements()] == [VERSION]


def test_unsupported_model_is_announced_with_its_reason_and_the_others_serve(
    settings: WorkerSettings, bus_client: redis.Redis, tmp_path: Path
) -> None:
    Gemma2Config(hidden_size=8, num_hidden_layers=1).save_pretrained(tmp_path / "capped")
    models = {"capped": ModelSource(path=str(tmp_path / "capped"), device="cpu"), **settings.models}
    host = Host(settings.model_copy(update={"models": models}))
    try:
        host.load()
        host.start()
        eventually(lambda: len([each for each in announced(bus_client) if each.ready]) == 1)
        (refused,) = [each for each in announced(bus_client) if not each.ready]
    finally:
        host.stop()
    assert refused.model == "capped"
    assert refused.unsupported == "Gemma2Config: soft-capped attention is not supported."


@pytest.mark.parametrize("with_head", [True, False])
def test_context_answers_where_embeddings_are_narrower_than_hidden_states(tmp_path: Path, with_head: bool) -> None:
    sizes = {"hidden_size": 32, "word_embed_proj_dim": 16, "ffn_dim": 48, "num_hidden_layers": 8}
    model = OPTForCausalLM(OPTConfig(vocab_size=258, num_attention_heads=4, **sizes)).eval()
    base, spec = replace(base_model(), model=model), TuningSpec(examples=EXAMPLES)
    artifacts = Artifacts(f"file://{tmp_path}")
    head = classifier(len(spec.label_names), hidden=32) if with_head else None
    resident = prepare(base, artifacts.get(stored_context(base, artifacts, spec, classifier=head)))
    found = resident.predictor.probabilities(base.model, [[5, 6]], ["a film"])
    assert found.sum().item() == pytest.approx(1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("reason", ["thread", "device"])
def test_worker_that_cannot_go_on_is_not_ready_and_asks_for_its_end(
    settings: WorkerSettings, bus_client: redis.Redis, reason: str
) -> None:
    failed = Event()
    host = Host(settings, on_failure=failed.set)
    host.load()
    host.start()

    def break_device() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    try:
        eventually(lambda: [each for each in announced(bus_client) if each.ready])
        if reason == "thread":
            assert host._tuning
            end_thread(host._tuning._thread)
        else:
            with pytest.raises(RuntimeError):
                host._device.run(break_device)
        assert failed.wait(60)
        (one,) = eventually(lambda: [each for each in announced(bus_client) if not each.ready])
    finally:
        host.stop()
    assert (
        one.stage
        == host.failure
        == {
            "thread": "a thread is gone: tuning",
            "device": "CUDA error: an illegal memory access was encountered",
        }[reason]
    )


def end_thread(thread: Thread) -> None:
    """Raise SystemExit in a thread, which ends it without a word."""
    assert thread.ident
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))


def test_models_device_that_is_not_there_is_the_models_fault_alone(
    settings: WorkerSettings, bus_client: redis.Redis
) -> None:
    models = {**settings.models, "elsewhere": ModelSource(path="no such folder", device="cuda:7")}
    host = Host(settings.model_copy(update={"models": models}))
    try:
        host.load()
        host.start()
        (ready,) = eventually(lambda: [each for each in announced(bus_client) if each.ready])
        (refused,) = [each for each in announced(bus_client) if not each.ready]
    finally:
        host.stop()
    assert refused.unsupported == "there is no device 'cuda:7': this machine has cpu"
    assert ready.device
    assert (ready.device.id, ready.device.total_bytes > ready.device.free_bytes > 0) == ("cpu", True)


def test_worker_whose_device_is_not_there_does_not_start(settings: WorkerSettings) -> None:
    host = Host(settings.model_copy(update={"device": "cuda:7"}))
    with pytest.raises(NoSuchDevice, match="there is no device 'cuda:7'"):
        host.load()
    host.stop()


def test_worker_that_stops_is_not_ready_any_more_and_then_gone(host: Host, bus_client: redis.Redis) -> None:
    eventually(lambda: [each for each in announced(bus_client) if each.ready])
    host.stop_tuning()
    eventually(lambda: [each.ready for each in announced(bus_client)] == [False])
    host.stop()
    assert announced(bus_client) == []


def planned(settings: WorkerSettings, host: Host, client: redis.Redis, replies: Any, content: str) -> PlanReply:
    """What the worker answers to a plan of the spec in a file."""
    address = Artifacts(settings.artifacts_url).put(content.encode(), ".json")
    host.answer_plan(plan_request(client, address))
    assert "started_by" in heard(replies)
    return PlanReply.model_validate_json(heard(replies))


def test_plan_request_is_taken_and_answered(
    settings: WorkerSettings, host: Host, bus_client: redis.Redis, replies: Any
) -> None:
    spec = {**submission().spec.model_dump(mode="json"), "of_a_newer_release": 1}
    reply = planned(settings, host, bus_client, replies, json.dumps(spec))
    assert reply.plan
    assert (reply.id, reply.failure, reply.plan.training_examples) == ("plan_1", None, len(EXAMPLES))


def test_refused_plan_is_answered_with_the_reason(
    settings: WorkerSettings, host: Host, bus_client: redis.Redis, replies: Any
) -> None:
    long = EXAMPLES[0].model_copy(update={"text": "x" * CONTEXT_LENGTH})
    spec = TuningSpec(examples=(long, *EXAMPLES)).model_dump_json()
    reply = planned(settings, host, bus_client, replies, spec)
    assert reply.failure
    assert (reply.failure.code, reply.plan) == ("context_too_long", None)


def test_plan_of_a_file_that_this_worker_does_not_see_is_refused(
    host: Host, bus_client: redis.Redis, replies: Any
) -> None:
    host.answer_plan(plan_request(bus_client, "0" * 64 + ".json"))
    assert "started_by" in heard(replies)
    reply = PlanReply.model_validate_json(heard(replies))
    assert reply.failure
    assert reply.failure.code == "artifacts_unavailable"


def test_job_is_tuned_and_its_context_answers(
    host: Host, records: Records, bus_client: redis.Redis, replies: Any
) -> None:
    stored, job = records.of("default").contexts.submit(submission())
    host.wake()
    eventually(lambda: (now := records.of("default").jobs.get(job.id)) and now.terminal, 60)
    tuned = records.of("default").contexts.get(stored.context.id)
    assert tuned
    assert tuned.artifact
    host.answer_batch(batch(bus_client, tuned.artifact))
    assert "started_by" in heard(replies)
    reply = ClassifyReply.model_validate_json(heard(replies))
    (answered,) = reply.parts
    assert answered.failure is None
    assert [sum(one.confidences) for one in answered.scored] == pytest.approx([1, 1])


def test_batch_for_a_context_that_is_gone_is_answered_with_the_reason(
    host: Host, bus_client: redis.Redis, replies: Any
) -> None:
    host.answer_batch(batch(bus_client, "0" * 64))
    assert "started_by" in heard(replies)
    (answered,) = ClassifyReply.model_validate_json(heard(replies)).parts
    assert answered.failure
    assert answered.failure.code == "context_not_found"
