from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any, cast

import pytest
import redis

from app.contract.names import MAX_ATTEMPTS, ErrorCode, JobStatus
from app.contract.objects import Job, JobError, Metrics
from app.records import scripts
from app.records.store import Claim, Records, StoreUnavailable, UnknownEntry, connect, new_id
from app.standalone.embedded import EmbeddedServer
from tests.submissions import EXAMPLES, MODEL, overdue, submission
from tests.waiting import eventually

METRICS = Metrics(served="tuned", loss_curve=(1.0, 0.5))
FAILURE = JobError(code=ErrorCode.INTERNAL, message="it broke")


def every(_: Any) -> bool:
    return True


def submit(records: Records, name: str | None = None, **changes: Any) -> tuple[str, str]:
    """Ids of a new context and of its job."""
    stored, job = records.submit(submission(name, **changes))
    return stored.context.id, job.id


def claim(records: Records, worker: str | None = None) -> Claim:
    """Claim a job, for a worker of its own if none is named."""
    claimed = records.claim([MODEL], worker or new_id("worker"))
    assert claimed
    return claimed


def succeed(records: Records, name: str | None = None) -> str:
    """Id of a context whose job has succeeded; nothing else may be queued."""
    context_id, _ = submit(records, name)
    claimed = claim(records)
    assert records.finish_succeeded(claimed.job_id, claimed.fence, "address", METRICS, {}) == "succeeded"
    return context_id


def job_of(records: Records, job_id: str) -> Job:
    job = records.job(job_id)
    assert job
    return job


def resolved_id(records: Records, ref: str) -> str | None:
    stored = records.resolve(ref)
    return stored.context.id if stored else None


def content(client: redis.Redis) -> dict[str, Any]:
    """Every key of the store and what it holds."""
    read: dict[Any, Callable[[str], Any]] = {
        "hash": client.hgetall,
        "string": client.get,
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
    }
    return {key: read[client.type(key)](key) for key in cast("list[str]", client.keys("*"))}


# -- submit -----------------------------------------------------------------------------------------------------------


def test_submitted_context_and_job_are_as_posted(records: Records) -> None:
    stored, job = records.submit(submission("intents", metadata={"team": "cards"}, hyperparameters={"steps": 7}))
    context = stored.context
    assert stored == records.context(context.id)
    assert job == records.job(job.id)
    assert (context.name, context.version, context.model, context.tokens) == ("intents", 1, MODEL, 20)
    assert (context.labels, context.metadata) == (("good", "bad"), {"team": "cards"})
    assert (context.status, context.job_id, context.metrics, stored.artifact) == ("queued", job.id, None, None)
    assert (job.status, job.terminal, job.context_id, job.attempt) == ("queued", False, context.id, 0)
    assert (job.progress.step, job.progress.total_steps, job.progress.fraction) == (0, 7, 0.0)
    assert (job.started_at, job.finished_at, job.error, job.cancel_requested) == (None, None, None, False)
    assert job.hyperparameters.steps == 7
    assert context.created_at == job.created_at


def test_submitting_the_same_ids_again_changes_nothing(records: Records, client: redis.Redis) -> None:
    context_id, job_id = submit(records, "intents")
    before = content(client)
    submit_again = client.register_script(scripts.SUBMIT)  # as a client library does when the answer was lost
    assert submit_again(args=[context_id, job_id, "intents", "{}", 0, 0]) == 1
    assert content(client) == before


def test_versions_of_a_name_count_up_and_none_is_given_twice(records: Records) -> None:
    first, second = succeed(records, "intents"), succeed(records, "intents")
    assert records.delete(second) == "address"
    third = succeed(records, "intents")
    versions = [stored.context.version for id_ in (first, third) if (stored := records.context(id_))]
    assert versions == [1, 3]
    assert resolved_id(records, "intents@2") is None


def test_contexts_without_a_name_are_each_a_version_1(records: Records) -> None:
    for _ in range(2):
        stored, _ = records.submit(submission())
        assert (stored.context.name, stored.context.version) == (None, 1)


# -- claim, beat, finish ----------------------------------------------------------------------------------------------


def test_jobs_are_claimed_in_the_order_of_their_submission(records: Records) -> None:
    jobs = [submit(records)[1] for _ in range(3)]
    assert [claim(records).job_id for _ in range(3)] == jobs
    assert records.claim([MODEL], "idle") is None


def test_worker_claims_the_oldest_job_of_its_models_only(records: Records) -> None:
    models = ("a", "b", "c")
    jobs = {model: records.submit(submission(model=model))[1].id for model in models}
    claimed = [records.claim(["c", "b"], f"worker-{number}") for number in range(3)]
    assert [one.job_id if one else None for one in claimed] == [jobs["b"], jobs["c"], None]


def test_claim_hands_over_what_was_submitted(records: Records) -> None:
    context_id, job_id = submit(records, labels=("bad", "good"), hyperparameters={"steps": 7, "seed": 2**63 - 1})
    claimed = claim(records)
    assert (claimed.job_id, claimed.context_id, claimed.model) == (job_id, context_id, MODEL)
    assert (claimed.fence, claimed.attempt) == (1, 1)
    assert claimed.spec == submission(labels=("bad", "good"), hyperparameters={"steps": 7, "seed": 2**63 - 1}).spec
    assert claimed.hyperparameters.seed == 2**63 - 1
    job = job_of(records, job_id)
    assert (job.status, job.attempt, job.terminal) == ("running", 1, False)
    assert job.started_at


def test_one_job_goes_to_one_worker_however_many_ask(records: Records) -> None:
    jobs = [submit(records)[1] for _ in range(20)]
    claimed: list[str] = []

    def take_all() -> None:
        while one := records.claim([MODEL], new_id("worker")):
            claimed.append(one.job_id)

    threads = [Thread(target=take_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted(jobs)


def test_beat_notes_progress_and_the_estimated_end(records: Records) -> None:
    claim_ = (submit(records), claim(records))[1]
    progress: dict[str, str | int | float] = {"step": 2, "fraction": 0.75, "trained_tokens": 90}
    assert records.beat(claim_.job_id, claim_.fence, progress, remaining_seconds=60.0) == "held"
    job = job_of(records, claim_.job_id)
    assert (job.progress.step, job.progress.fraction, job.trained_tokens) == (2, 0.75, 90)
    assert job.estimated_finish_at
    assert job.started_at
    assert 59 < (job.estimated_finish_at - job.started_at).total_seconds() < 90


def test_success_ends_the_job_and_makes_the_context_answer(records: Records) -> None:
    context_id, job_id = submit(records, "intents")
    claimed = claim(records)
    fields: dict[str, str | int | float] = {"step": 3, "fraction": 1.0, "trained_tokens": 120}
    assert records.finish_succeeded(job_id, claimed.fence, "address", METRICS, fields) == "succeeded"
    job = job_of(records, job_id)
    assert (job.status, job.terminal, job.progress.step, job.trained_tokens) == ("succeeded", True, 3, 120)
    assert job.finished_at
    assert job.estimated_finish_at is None
    stored = records.context(context_id)
    assert stored
    assert (stored.context.status, stored.context.metrics, stored.artifact) == ("succeeded", METRICS, "address")


def test_failure_ends_the_job_with_its_reason(records: Records) -> None:
    _, job_id = submit(records)
    assert records.finish_failed(job_id, claim(records).fence, FAILURE) == "failed"
    job = job_of(records, job_id)
    assert (job.status, job.error) == ("failed", FAILURE)


def test_ended_job_cannot_end_again(records: Records) -> None:
    _, job_id = submit(records)
    fence = claim(records).fence
    records.finish_failed(job_id, fence, FAILURE)
    assert records.finish_succeeded(job_id, fence, "address", METRICS, {}) == "failed"
    assert records.beat(job_id, fence) == "lost"
    assert job_of(records, job_id).status == "failed"


def test_worker_that_lost_the_answer_to_its_claim_gets_the_same_job_again(records: Records) -> None:
    jobs = [submit(records)[1] for _ in range(2)]
    first, again = claim(records, "worker-1"), claim(records, "worker-1")
    assert again == first
    assert (first.job_id, job_of(records, jobs[0]).attempt, job_of(records, jobs[1]).status) == (jobs[0], 1, "queued")


def test_repeated_end_gives_the_same_answer(records: Records) -> None:
    _, job_id = submit(records)
    fence = claim(records).fence
    endings = [records.finish_succeeded(job_id, fence, "address", METRICS, {}) for _ in range(2)]
    assert endings == ["succeeded", "succeeded"]


def test_failed_attempt_counts_and_the_job_is_queued_again(records: Records) -> None:
    _, job_id = submit(records)
    fence = claim(records).fence
    assert records.retry(job_id, fence) == "released"
    assert (job_of(records, job_id).status, claim(records).attempt) == ("queued", 2)
    assert records.retry(job_id, fence) == "lost"


def test_stale_fence_is_refused_everywhere(records: Records, client: redis.Redis) -> None:
    _, job_id = submit(records)
    stale = claim(records).fence
    overdue(client, job_id)
    records.sweep()
    fresh = claim(records).fence
    assert fresh > stale
    before = content(client)
    assert records.beat(job_id, stale, {"step": 9}) == "lost"
    assert records.finish_succeeded(job_id, stale, "address", METRICS, {}) == "lost"
    assert records.finish_failed(job_id, stale, FAILURE) == "lost"
    assert records.finish_cancelled(job_id, stale) == "lost"
    assert records.release(job_id, stale) == "lost"
    assert content(client) == before
    assert records.beat(job_id, fresh) == "held"


def test_released_job_is_first_in_line_and_the_attempt_does_not_count(records: Records) -> None:
    jobs = [submit(records)[1] for _ in range(2)]
    first = claim(records)
    assert records.release(first.job_id, first.fence) == "released"
    assert job_of(records, jobs[0]).status == "queued"
    again = claim(records)
    assert (again.job_id, again.attempt, again.fence) == (jobs[0], 1, 2)


# -- cancel and delete ------------------------------------------------------------------------------------------------


def test_queued_job_is_cancelled_at_once(records: Records) -> None:
    _, job_id = submit(records)
    assert records.cancel(job_id) == "queued"
    job = job_of(records, job_id)
    assert (job.status, job.cancel_requested, job.attempt) == ("cancelled", True, 0)
    assert job.finished_at
    assert records.claim([MODEL], "idle") is None


def test_running_job_learns_of_its_cancel_with_its_next_beat(records: Records) -> None:
    _, job_id = submit(records)
    claimed = claim(records)
    assert records.cancel(job_id) == "running"
    assert job_of(records, job_id).status == "running"
    assert records.beat(job_id, claimed.fence) == "cancel"
    assert records.finish_cancelled(job_id, claimed.fence) == "cancelled"
    assert job_of(records, job_id).status == "cancelled"


def test_cancel_wins_over_a_success_that_comes_after_it(records: Records) -> None:
    context_id, job_id = submit(records, "intents")
    claimed = claim(records)
    records.cancel(job_id)
    assert records.finish_succeeded(job_id, claimed.fence, "address", METRICS, {}) == "cancelled"
    stored = records.context(context_id)
    assert stored
    assert (stored.context.status, stored.artifact, stored.context.metrics) == ("cancelled", None, None)


def test_cancel_after_the_end_changes_nothing(records: Records, client: redis.Redis) -> None:
    context_id = succeed(records)
    stored = records.context(context_id)
    assert stored
    before = content(client)
    assert records.cancel(stored.context.job_id) == "succeeded"
    assert content(client) == before


def test_cancelled_job_whose_worker_is_released_or_lost_ends_cancelled(records: Records, client: redis.Redis) -> None:
    _, job_id = submit(records)
    claim(records)
    records.cancel(job_id)
    overdue(client, job_id)
    assert records.sweep() == {job_id: "cancelled"}


def test_cancelled_job_that_is_released_is_not_run_again(records: Records) -> None:
    _, job_id = submit(records)
    claimed = claim(records)
    records.cancel(job_id)
    records.release(job_id, claimed.fence)
    assert job_of(records, job_id).status == "cancelled"
    assert records.claim([MODEL], "idle") is None


def test_unknown_job_cannot_be_cancelled(records: Records, client: redis.Redis) -> None:
    assert records.cancel("job_unknown") is None
    assert content(client) == {}


def test_deleted_context_leaves_only_its_job(records: Records, client: redis.Redis) -> None:
    context_id = succeed(records, "intents")
    assert records.delete(context_id) == "address"
    assert records.context(context_id) is None
    assert records.contexts(10, None, every) == []
    assert resolved_id(records, "intents") is None
    assert not [key for key in content(client) if context_id in key]
    assert [job.status for job in records.jobs(10, None, every)] == ["succeeded"]


def test_deleting_a_context_cancels_its_queued_job(records: Records) -> None:
    context_id, job_id = submit(records)
    assert records.delete(context_id) == ""
    assert job_of(records, job_id).status == "cancelled"
    assert records.claim([MODEL], "idle") is None


def test_deleting_a_context_cancels_its_running_job(records: Records) -> None:
    context_id, job_id = submit(records)
    claimed = claim(records)
    assert records.delete(context_id) == ""
    assert records.beat(job_id, claimed.fence) == "cancel"
    assert records.finish_succeeded(job_id, claimed.fence, "address", METRICS, {}) == "cancelled"
    assert records.context(context_id) is None


def test_job_that_is_claimed_without_its_context_ends_cancelled(records: Records, client: redis.Redis) -> None:
    context_id, job_id = submit(records)
    client.delete(f"ct:context:{context_id}", f"ct:spec:{context_id}")  # as if deleted between claim and read
    assert records.claim([MODEL], "idle") is None
    assert job_of(records, job_id).status == "cancelled"


def test_unknown_context_cannot_be_deleted(records: Records, client: redis.Redis) -> None:
    assert records.delete("ctx_unknown") is None
    assert content(client) == {}


# -- sweep ------------------------------------------------------------------------------------------------------------


def test_sweep_leaves_jobs_whose_worker_beats(records: Records) -> None:
    _, job_id = submit(records)
    claim(records)
    assert records.sweep() == {}
    assert job_of(records, job_id).status == "running"


def test_leases_that_ended_while_nobody_could_look_are_prolonged(records: Records, client: redis.Redis) -> None:
    _, job_id = submit(records)
    claimed = claim(records)
    records.sweep()
    overdue(client, job_id)
    client.set("ct:swept", 0)
    assert records.sweep() == {}
    assert records.beat(job_id, claimed.fence) == "held"
    overdue(client, job_id)
    assert records.sweep() == {job_id: "queued"}


def test_overdue_job_is_queued_again_at_its_old_place(records: Records, client: redis.Redis) -> None:
    jobs = [submit(records)[1] for _ in range(2)]
    claim(records)
    overdue(client, jobs[0])
    assert records.sweep() == {jobs[0]: "queued"}
    assert records.sweep() == {}
    assert [claim(records).job_id for _ in range(2)] == jobs
    assert job_of(records, jobs[0]).attempt == 2


def test_job_that_lost_its_worker_too_often_fails(records: Records, client: redis.Redis) -> None:
    _, job_id = submit(records)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert claim(records).attempt == attempt
        overdue(client, job_id)
        assert records.sweep() == {job_id: "queued" if attempt < MAX_ATTEMPTS else "failed"}
    job = job_of(records, job_id)
    assert job.status == JobStatus.FAILED
    assert job.error
    assert job.error.code == ErrorCode.WORKER_LOST
    assert records.claim([MODEL], "idle") is None


def test_sweep_handles_any_number_of_overdue_jobs(records: Records, client: redis.Redis) -> None:
    jobs = [submit(records)[1] for _ in range(130)]
    for job_id in jobs:
        claim(records)
        overdue(client, job_id)
    swept = {**records.sweep(), **records.sweep()}
    assert swept == dict.fromkeys(jobs, "queued")


# -- refs and lists ---------------------------------------------------------------------------------------------------


def test_name_means_its_newest_version_that_can_answer(records: Records) -> None:
    first, second = succeed(records, "intents"), succeed(records, "intents")
    third, _ = submit(records, "intents")
    assert resolved_id(records, "intents") == second
    assert [resolved_id(records, f"intents@{version}") for version in (1, 2, 3)] == [first, second, third]
    records.delete(second)
    assert resolved_id(records, "intents") == first


def test_name_whose_versions_cannot_answer_means_the_newest(records: Records) -> None:
    submit(records, "intents")
    newest, _ = submit(records, "intents")
    assert resolved_id(records, "intents") == newest


@pytest.mark.parametrize(
    "ref",
    [
        "", "@", "@1", "intents@", "intents@0", "intents@2", "intents@-1", "intents@+1", "intents@1.0", "intents@01",
        "intents@1 ", "intents@1@1", "intents@inf", "intents@\u0661", "intents@" + "1" * 5000, "Intents", "ctx_",
        "ctx_x@1", "\0",
    ],
)  # fmt: skip
def test_ref_of_nothing_resolves_to_nothing(records: Records, ref: str) -> None:
    succeed(records, "intents")
    assert records.resolve(ref) is None


def test_lists_are_newest_first_and_go_on_after_an_id(records: Records) -> None:
    ids = [submit(records)[0] for _ in range(5)][::-1]
    pages = [[stored.context.id for stored in records.contexts(2, after, every)] for after in (None, ids[1], ids[3])]
    assert pages == [ids[:2], ids[2:4], ids[4:]]
    assert records.contexts(2, ids[4], every) == []


def test_filter_looks_beyond_the_first_page(records: Records) -> None:
    wanted = records.submit(submission(metadata={"team": "cards"}))[1].id
    others = [submit(records)[1] for _ in range(120)]
    assert [job.id for job in records.jobs(5, None, lambda job: job.id == wanted)] == [wanted]
    assert len(records.jobs(200, None, every)) == len(others) + 1


def test_list_cannot_go_on_after_an_id_that_is_not_in_it(records: Records) -> None:
    context_id, job_id = submit(records)
    records.delete(context_id)
    with pytest.raises(UnknownEntry):
        records.contexts(2, context_id, every)
    with pytest.raises(UnknownEntry):
        records.jobs(2, context_id, every)
    assert records.jobs(2, job_id, every) == []


# -- a store that does not answer -------------------------------------------------------------------------------------


def test_store_that_is_down_is_unavailable(tmp_path: Path) -> None:
    client = connect(f"unix://{tmp_path}/none")
    records = Records(client)
    for ask in (records.ping, records.sweep, lambda: records.context("ctx_1"), lambda: records.resolve("intents")):
        with pytest.raises(StoreUnavailable):
            ask()
    client.close()


def test_store_that_refuses_writes_is_unavailable_and_nothing_is_stored(tmp_path: Path) -> None:
    server = EmbeddedServer.store(tmp_path)
    server.start()
    try:
        eventually(server.answers)
        client = connect(server.url)
        records = Records(client)
        client.config_set("maxmemory", 1)
        with pytest.raises(StoreUnavailable):
            records.submit(submission("intents"))
        client.config_set("maxmemory", 0)
        client.replicaof("127.0.0.1", 1)
        with pytest.raises(StoreUnavailable):
            records.submit(submission("intents"))
        client.replicaof("NO", "ONE")
        assert content(client) == {}
        client.close()
    finally:
        server.stop()


def test_records_survive_a_restart_of_the_store(tmp_path: Path) -> None:
    server = EmbeddedServer.store(tmp_path)
    server.start()
    try:
        eventually(server.answers)
        client = connect(server.url)
        records = Records(client)
        _, job_id = submit(records, "intents")
        claimed = claim(records)
        pid = server.pid
        assert pid
        server.stop()
        server.start()
        eventually(server.answers)
        assert records.beat(job_id, claimed.fence) == "held"
        assert records.finish_succeeded(job_id, claimed.fence, "address", METRICS, {}) == "succeeded"
        assert claimed.spec.examples == EXAMPLES
        client.close()
    finally:
        server.stop()
