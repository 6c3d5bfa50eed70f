"""Names, versions, lists, cancelling and deleting, over HTTP."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.e2e.service import TEXTS, TINY, Service, assert_problem
from tests.waiting import eventually

LONG = {"method": "cpt", "steps": 10_000}


@pytest.fixture
def busy(service: Service) -> Iterator[str]:
    """Id of a job that keeps the worker busy until the end of the test."""
    _, job_id = service.create(model=TINY, hyperparameters=LONG)
    service.moving(job_id)
    yield job_id
    service.http.post(f"/jobs/{job_id}/cancel")
    service.ended(job_id)


# -- versions and refs ------------------------------------------------------------------------------------------------


def test_name_stands_for_its_newest_version_that_can_answer(service: Service, busy: str) -> None:
    service.http.post(f"/jobs/{busy}/cancel")
    first, second = (service.tuned(name="versions", model=TINY) for _ in range(2))
    third, job_id = service.create(name="versions", model=TINY, hyperparameters=LONG)
    assert [service.context(f"versions@{version}")["id"] for version in (1, 2, 3)] == [first, second, third]
    assert service.context("versions")["id"] == second
    answer = service.post_classify("versions", TEXTS).json()
    assert (answer["context_id"], answer["context_version"]) == (second, 2)
    assert service.post_classify("versions@1", TEXTS).json()["context_id"] == first
    refused = service.post_classify("versions@3", TEXTS)
    assert_problem(refused, 409, "context_not_ready", "/context")
    assert job_id in refused.json()["detail"]
    assert_problem(service.post_classify("versions@4", TEXTS), 404, "context_not_found")
    service.http.delete(f"/contexts/{third}")
    service.ended(job_id)
    assert service.http.delete(f"/contexts/{second}").status_code == 204
    assert service.context("versions")["id"] == first
    assert service.context(service.tuned(name="versions", model=TINY))["version"] == 4


def test_contexts_posted_at_once_have_versions_of_their_own(service: Service) -> None:
    with ThreadPoolExecutor(6) as pool:
        created = list(pool.map(lambda _: service.create(name="at-once", model=TINY), range(6)))
    for _, job_id in created:
        assert service.ended(job_id)["status"] == "succeeded"
    assert sorted(service.context(context_id)["version"] for context_id, _ in created) == [1, 2, 3, 4, 5, 6]


# -- lists ------------------------------------------------------------------------------------------------------------


def test_lists_are_paged_and_filtered(service: Service, tuned: str) -> None:
    ids = [service.tuned(name="listed", model=TINY, metadata={"number": str(number)}) for number in range(3)][::-1]
    assert service.listed("/contexts", name="listed") == ids
    pages, after = [], None
    while True:
        query = {"name": "listed", "limit": "2"} | ({"after": after} if after else {})
        page = service.http.get("/contexts", params=query).json()
        assert page["object"] == "list"
        pages.append([one["id"] for one in page["data"]])
        after = page["next"]
        assert page["has_more"] == (after is not None)
        if after is None:
            break
    assert pages == [ids[:2], ids[2:]]
    assert service.listed("/contexts", **{"name": "listed", "metadata[number]": "1"}) == [ids[1]]
    assert service.listed("/contexts", name="listed", status="failed") == []
    assert tuned in service.listed("/contexts", status="succeeded", model=service.context(tuned)["model"])
    assert tuned not in service.listed("/contexts", model=TINY)

    jobs = [service.context(context_id)["job_id"] for context_id in ids]
    assert service.listed("/jobs", model=TINY, status="succeeded")[:3] == jobs
    assert [service.listed("/jobs", context=context_id) for context_id in ids] == [[job_id] for job_id in jobs]


# -- cancel -----------------------------------------------------------------------------------------------------------


def test_queued_job_is_cancelled_at_once(service: Service, busy: str) -> None:
    context_id, job_id = service.create(model=TINY)
    assert service.job(job_id)["status"] == "queued"
    for _ in range(2):
        cancelled = service.http.post(f"/jobs/{job_id}/cancel")
        assert cancelled.status_code == 200
        assert (cancelled.json()["status"], cancelled.json()["terminal"]) == ("cancelled", True)
    assert service.job(busy)["status"] == "running"
    assert service.context(context_id)["status"] == "cancelled"
    assert_problem(service.post_classify(context_id, TEXTS), 409, "context_failed", "/context")


def test_running_job_is_cancelled_and_leaves_nothing(service: Service) -> None:
    before = service.artifacts()
    context_id, job_id = service.create(hyperparameters=LONG)
    eventually(lambda: service.job(job_id)["status"] == "running")
    cancelled = service.http.post(f"/jobs/{job_id}/cancel").json()
    assert cancelled["cancel_requested"] is True
    ended = service.ended(job_id)
    assert (ended["status"], ended["error"]) == ("cancelled", None)
    assert ended["finished_at"]
    assert service.context(context_id)["report"] is None
    eventually(lambda: service.artifacts() == before)


def test_ended_job_cannot_be_cancelled(service: Service, tiny: str) -> None:
    job_id = service.context(tiny)["job_id"]
    before = service.job(job_id)
    assert_problem(service.http.post(f"/jobs/{job_id}/cancel"), 409, "job_not_cancellable")
    assert service.job(job_id) == before
    assert_problem(service.http.post("/jobs/job_unknown/cancel"), 404, "job_not_found")


def test_waiting_for_a_job_ends_when_it_does(service: Service, busy: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(service.job, busy, 60)
        service.http.post(f"/jobs/{busy}/cancel")
        assert waiting.result(90)["status"] == "cancelled"
    assert_problem(service.http.get("/jobs/job_unknown", params={"wait": 30}), 404, "job_not_found")


# -- delete -----------------------------------------------------------------------------------------------------------


def test_context_deleted_while_it_is_tuned_leaves_only_its_cancelled_job(service: Service) -> None:
    before = service.artifacts()
    context_id, job_id = service.create(name="deleted", model=TINY, hyperparameters=LONG)
    service.moving(job_id)
    assert service.http.delete(f"/contexts/{context_id}").status_code == 204
    assert service.ended(job_id)["status"] == "cancelled"
    for ref in (context_id, "deleted", "deleted@1"):
        assert_problem(service.http.get(f"/contexts/{ref}"), 404, "context_not_found")
    assert context_id not in service.listed("/contexts")
    assert service.http.delete(f"/contexts/{context_id}").status_code == 204
    eventually(lambda: service.artifacts() == before)


def test_context_deleted_while_it_is_queued_is_gone(service: Service, busy: str) -> None:
    context_id, job_id = service.create(model=TINY)
    assert service.http.delete(f"/contexts/{context_id}").status_code == 204
    assert service.job(job_id)["status"] == "cancelled"
    assert service.job(busy)["status"] == "running"


def test_context_deleted_while_it_answers(service: Service) -> None:
    before = service.artifacts()
    context_id = service.tuned(model=TINY)
    assert len(service.artifacts()) == len(before) + 1

    def ask(number: int) -> httpx.Response:
        if number == 10:
            assert service.http.delete(f"/contexts/{context_id}").status_code == 204
        return service.post_classify(context_id, [f"text {number}"] * 20)

    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(ask, range(40)))
    assert {response.status_code for response in responses} == {200, 404}
    for response in responses:
        if response.status_code == 404:
            assert_problem(response, 404, "context_not_found")
    assert_problem(ask(0), 404, "context_not_found")
    assert service.artifacts() == before
