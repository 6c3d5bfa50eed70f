"""What users of the Python client, of scikit-learn and of the command line do, with the real service."""

import asyncio
import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import contextune
import pytest
from contextune import AsyncContextune, Contextune
from contextune.sklearn import ContextuneClassifier

from tests.e2e.service import EXAMPLES, TEXTS, TINY, Service

FILE = Path("examples/support-intents.csv")
PLAIN = {"method": "icl"}
LABELS = ["card arrival", "card linking"]


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[Contextune]:
    with Contextune(str(service.http.base_url)) as client:
        yield client


def command(service: Service, *arguments: str, **options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "contextune.cli", *arguments],
        env={**os.environ, "PYTHONPATH": "client/src", "CONTEXTUNE_URL": str(service.http.base_url), **options},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_examples_become_a_context_that_classifies(client: Contextune) -> None:
    tuning = client.contexts.create(
        EXAMPLES,
        name="from-python",
        model=TINY,
        hyperparameters={"method": "cpt", "steps": 2},
        metadata={"team": "cards"},
    )
    assert tuning.job is not None
    context = tuning.wait(timeout=120)
    assert (context.status, context.version, context.metadata) == ("succeeded", 1, {"team": "cards"})
    assert context.report is not None
    assert len(context.report.loss_curve) == 2
    answer = context.classify(TEXTS)
    assert [one.index for one in answer] == [0, 1, 2]
    assert all(one.prediction in context.labels for one in answer)
    assert client.classify("from-python@1", TEXTS[0])[0].labels == answer[0].labels
    events = list(client.jobs.events(tuning.job.id))
    statuses = [event.data["status"] for event in events if event.type == "status"]
    assert (statuses[0], statuses[-1]) == ("queued", "succeeded")
    assert [event.id for event in client.jobs.list_events(tuning.job.id)] == [event.id for event in events]
    assert [event.id for event in client.jobs.events(tuning.job.id, after=events[-2].id)] == [events[-1].id]
    assert client.jobs.get(tuning.job.id).status == "succeeded"
    assert context.id in [one.id for one in client.contexts.list(name="from-python")]
    assert [one.prediction for one in client.classify_many(context, TEXTS * 100)] == answer.predictions * 100
    context.delete()
    context.delete()
    with pytest.raises(contextune.NotFoundError):
        context.refresh()


def test_lists_go_over_their_pages(client: Contextune) -> None:
    made = {
        client.contexts.create(EXAMPLES, name="paged", model=TINY, hyperparameters=PLAIN).context.id for _ in range(3)
    }
    found = [one.id for one in client.contexts.list(name="paged")]
    assert set(found) == made
    assert [one.id for one in client.contexts.list(name="paged", limit=2)] == found[:2]


def test_dry_run_and_faults_are_told(client: Contextune) -> None:
    assert client.contexts.dry_run(EXAMPLES, model=TINY).total_steps > 0
    with pytest.raises(contextune.InvalidRequestError) as caught:
        client.contexts.create([("the same", "a"), ("the same", "b")])
    assert (caught.value.code, caught.value.param) == ("contradicting_examples", "/examples/1")
    with pytest.raises(contextune.NotFoundError, match="no such context"):
        client.classify("nobody-has-made-this", "x")


def test_service_describes_itself(client: Contextune) -> None:
    assert client.live()
    assert client.ready().ready
    assert TINY in [one.id for one in client.models.list()]


def test_asynchronous_client(service: Service) -> None:
    async def scenario() -> list[str | None]:
        async with AsyncContextune(str(service.http.base_url)) as client:
            tuning = await client.contexts.create(EXAMPLES, model=TINY, hyperparameters=PLAIN)
            context = await tuning.wait(timeout=120)
            answers = await asyncio.gather(*(context.classify(text) for text in TEXTS))
            batch = await (await client.batches.create(context, [*TEXTS, "x" * 600], top_k=2)).wait(timeout=120)
            results = [one async for one in batch.results()]
            assert [one.prediction for one in results] == [answer[0].prediction for answer in answers]
            alone = [answer[0].confidence for answer in answers]
            assert [one.confidence for one in results] == pytest.approx(alone, abs=1e-4)
            assert all(next(iter(one.labels)) == one.prediction and len(one.labels) == 2 for one in results)
            assert [(one.index, one.code) async for one in batch.errors()] == [(3, "input_too_long")]
            await batch.delete()
            return [answer[0].prediction for answer in answers]

    assert set(asyncio.run(scenario())) <= set(LABELS)


def test_classifier_of_scikit_learn(service: Service) -> None:
    texts, labels = zip(*((one["text"], one["label"]) for one in EXAMPLES), strict=True)
    classifier = ContextuneClassifier(url=str(service.http.base_url), model=TINY, method="icl").fit(texts, labels)
    assert classifier.predict_proba(TEXTS).sum(axis=1) == pytest.approx([1, 1, 1])
    assert set(classifier.predict(TEXTS)) <= set(LABELS)
    classifier.delete()


def test_three_commands_from_a_file_to_an_answer(service: Service) -> None:
    tuned = command(service, "tune", str(FILE), "--name", "from-file", "--method", "cpt", "--set", "steps=1")
    assert tuned.returncode == 0, tuned.stderr
    assert tuned.stdout.startswith("from-file@1 · succeeded · 4 labels")
    assert "8 examples with 4 labels in examples/support-intents.csv" in tuned.stderr
    answered = command(service, "classify", "from-file", "My card got lost", "--jsonl")
    with FILE.open(newline="") as file:
        labels = {row["label"] for row in csv.DictReader(file)}
    assert set(json.loads(answered.stdout)["labels"]) == labels
    measured = json.loads(command(service, "eval", "from-file", str(FILE), "--json").stdout)
    assert (measured["ok"], measured["data"]["n"]) == (True, 8)
    listed = json.loads(command(service, "contexts", "list", "--name", "from-file", "--json").stdout)["data"]
    assert command(service, "contexts", "delete", listed[0]["id"]).returncode == 0
    assert command(service, "classify", "from-file", "x").returncode == 4


def test_waiting_on_the_command_line_is_for_the_end_of_the_job(service: Service) -> None:
    made = command(service, "tune", str(FILE), "--method", "icl", "--detach", "--json")
    job = json.loads(made.stdout)["data"]["job"]
    waited = command(service, "jobs", "wait", job["id"], "--json")
    assert json.loads(waited.stdout)["data"]["status"] == "succeeded"
