"""Processes that die, on a service of these tests' own. Each test leaves it whole."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest
from contextune import Contextune

from tests.e2e.service import EXAMPLES, TEXTS, Service, assert_problem, same
from tests.waiting import eventually

TUNING = {"method": "cpt", "steps": 10, "seed": 3}


@pytest.fixture(scope="module")
def fragile(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("fragile"), models, checkpoint_seconds="0.5", classify_timeout="120")
    try:
        service.start()
        yield service
    finally:
        service.close()


@pytest.fixture(scope="module")
def unbroken(fragile: Service) -> str:
    """Id of the context that `TUNING` makes when nothing happens."""
    return fragile.tuned(hyperparameters=TUNING)


def assert_as_unbroken(service: Service, context_id: str, unbroken: str) -> None:
    curves = [service.context(one)["report"]["loss_curve"] for one in (context_id, unbroken)]
    assert len(curves[0]) == TUNING["steps"]
    assert same(*curves)
    assert same(service.confidences(context_id), service.confidences(unbroken))


def confidences_if_served(service: Service, ref: str) -> list[float]:
    """As `Service.confidences`, none while there is no worker."""
    response = service.post_classify(ref, TEXTS * 20)
    if response.status_code == 200:
        return service.confidences_in(response)
    assert_problem(response, 503, "no_worker")
    assert response.headers["retry-after"]
    return []


@contextmanager
def classifying(service: Service, ref: str) -> Iterator[None]:
    """Several askers, each with a request under way whatever happens: all answers are as if nothing had happened.

    A worker that takes long to come back is told as the contract says, and asked again.
    """
    expected = service.confidences(ref)
    happened = Event()

    def ask() -> None:
        over = False
        while not over:
            over = happened.is_set()
            assert same(eventually(lambda: confidences_if_served(service, ref), 150), expected * 20)

    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(ask) for _ in range(3)]
        service.confidences(ref, TEXTS[:1])  # answered in turn with the others, which are under way by then
        try:
            yield
        finally:
            happened.set()
        for one in asked:
            one.result(150)


def test_worker_killed_in_mid_tuning(fragile: Service, unbroken: str) -> None:
    before = fragile.artifacts()
    context_id, job_id = fragile.create(hyperparameters=TUNING)
    fragile.moving(job_id)
    fragile.kill_worker()
    assert fragile.job(job_id)["status"] == "running"
    job = fragile.ended(job_id)
    assert (job["status"], job["attempt"], job["error"]) == ("succeeded", 2, None)
    assert job["progress"] == {"step": 10, "total_steps": 10, "fraction": 1.0}
    assert_as_unbroken(fragile, context_id, unbroken)
    eventually(lambda: len(fragile.artifacts() - before) == 1)


def test_worker_killed_while_it_classifies(fragile: Service, unbroken: str) -> None:
    with classifying(fragile, unbroken):
        fragile.kill_worker()


def test_context_posted_while_the_worker_starts_again(fragile: Service) -> None:
    fragile.kill_worker()

    def posted() -> str | None:
        response = fragile.post_context(name="posted-meanwhile")
        if response.status_code == 202:
            return str(response.json()["job"]["id"])
        assert_problem(response, 503, "no_worker")
        assert response.headers["retry-after"]
        return None

    job_id = eventually(posted, 120)
    assert job_id
    assert fragile.ended(job_id)["status"] == "succeeded"
    assert len(fragile.listed("/contexts", name="posted-meanwhile")) == 1


def test_bus_restarted_while_it_classifies_and_tunes(fragile: Service, unbroken: str) -> None:
    context_id, job_id = fragile.create(hyperparameters=TUNING)
    fragile.moving(job_id)
    worker = fragile.worker_pid()
    with classifying(fragile, unbroken):
        fragile.kill_bus()
    job = fragile.ended(job_id)
    assert (job["status"], job["attempt"]) == ("succeeded", 1)
    assert_as_unbroken(fragile, context_id, unbroken)
    eventually(lambda: fragile.http.get("/health/ready").status_code == 200)
    assert fragile.confidences(fragile.tuned())
    assert fragile.worker_pid() == worker


def test_client_waits_through_the_death_of_gateway_and_worker(fragile: Service, unbroken: str) -> None:
    with Contextune(str(fragile.http.base_url)) as client, ThreadPoolExecutor(2) as pool:
        tuning = client.contexts.create(EXAMPLES, hyperparameters=TUNING, idempotency_key="once")
        assert tuning.job
        waiting = pool.submit(tuning.wait, timeout=240)
        reading = pool.submit(lambda job_id: list(client.jobs.events(job_id)), tuning.job.id)
        fragile.moving(tuning.job.id)
        fragile.stop()
        fragile.start()
        context = waiting.result(250)
        events = reading.result(60)
        assert [event.id for event in events] == sorted({event.id for event in events}, key=int)
        assert [event.data["status"] for event in events if event.type == "status"][-1] == "succeeded"
        assert {event.id for event in client.jobs.events(tuning.job.id) if event.type == "status"} <= {
            event.id for event in events
        }
        assert_as_unbroken(fragile, context.id, unbroken)
        again = client.contexts.create(EXAMPLES, hyperparameters=TUNING, idempotency_key="once")
        assert again.context.id == context.id


def test_service_stopped_and_started_gives_the_same_answers(fragile: Service, unbroken: str) -> None:
    answers, context = fragile.confidences(unbroken), fragile.context(unbroken)
    job = fragile.job(context["job_id"])
    lists = [fragile.listed(path) for path in ("/contexts", "/jobs")]
    broken, job_id = fragile.create(hyperparameters=TUNING)
    fragile.moving(job_id)
    fragile.stop()
    fragile.start()
    assert same(fragile.confidences(unbroken), answers)
    assert (fragile.context(unbroken), fragile.job(context["job_id"])) == (context, job)
    assert [fragile.listed(path)[1:] for path in ("/contexts", "/jobs")] == lists
    ended = fragile.ended(job_id)
    assert (ended["status"], ended["attempt"]) == ("succeeded", 1)
    assert_as_unbroken(fragile, broken, unbroken)
