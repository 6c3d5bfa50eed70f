"""The job state machine: submit, claim, beat, finish, cancel, sweep."""

from dataclasses import replace
from threading import Thread

import pytest
import redis

from app.contract.names import MAX_ATTEMPTS, ErrorCode, JobStatus
from app.records.connection import new_id
from app.records.contexts import QueueFull, QuotaReached
from app.records.limits import QueueLimits, Retention
from app.records.store import JobRef, Records
from tests.app.records.steps import FAILURE, REPORT, claim, content, context_of, job_id_of, job_of, submit, succeed
from tests.submissions import MODEL, overdue, submission


def test_submitted_context_and_job_are_as_posted(records: Records) -> None:
    stored, job = records.of("default").contexts.submit(
        submission("intents", metadata={"team": "cards"}, hyperparameters={"steps": 7})
    )
    context = stored.context
    assert stored == context_of(records, context.id)
    assert job == job_of(records, job.id)
    assert (context.name, context.version, context.model, context.tokens) == ("intents", 1, MODEL, 20)
    assert (context.labels, context.metadata, context.aliases) == (("good", "bad"), {"team": "cards"}, ())
    assert (context.status, context.job_id, context.report, stored.artifact) == ("queued", job.id, None, None)
    assert (context.error, context.finished_at, context.hyperparameters) == (None, None, job.hyperparameters)
    assert (job.object, job.kind, job.status, job.terminal) == ("job", "tuning", "queued", False)
    assert (job.context_id, job.attempt) == (context.id, 0)
    assert (job.progress.step, job.progress.total_steps, job.progress.fraction) == (0, 7, 0.0)
    assert (job.started_at, job.finished_at, job.error, job.cancel_requested) == (None, None, None, False)
    assert job.hyperparameters
    assert job.hyperparameters.steps == 7
    assert context.created_at == job.created_at


def test_submitting_the_same_ids_again_changes_nothing(records: Records, client: redis.Redis) -> None:
    contexts, ids = records.of("default").contexts, (new_id("ctx"), new_id("job"))
    first = contexts.submit(submission("intents"), ids=ids)
    before = content(client)
    assert contexts.submit(submission("intents"), ids=ids) == first  # as a client does when the answer was lost
    assert content(client) == before


def test_jobs_are_claimed_in_the_order_of_their_submission(records: Records) -> None:
    jobs = [submit(records)[1] for _ in range(3)]
    assert [claim(records).job_id for _ in range(3)] == jobs
    assert records.claim([MODEL], "idle") is None


def test_worker_claims_the_oldest_job_of_its_models_only(records: Records) -> None:
    jobs = {model: submit(records, model=model)[1] for model in ("a", "b", "c")}
    claimed = [records.claim(["c", "b"], f"worker-{number}") for number in range(3)]
    assert [one.job_id if one else None for one in claimed] == [jobs["b"], jobs["c"], None]


def test_tenants_are_served_in_turn(records: Records) -> None:
    for tenant, count in (("many", 4), ("few", 2), ("one", 1)):
        for _ in range(count):
            submit(records, tenant=tenant)
    assert [claim(records).tenant for _ in range(7)] == ["many", "few", "one", "many", "few", "many", "many"]


def test_claim_hands_over_what_was_submitted(records: Records) -> None:
    context_id, job_id = submit(records, labels=("bad", "good"), hyperparameters={"steps": 7, "seed": 2**63 - 1})
    claimed = claim(records)
    assert (claimed.tenant, claimed.job_id, claimed.context_id, claimed.model) == ("default", job_id, context_id, MODEL)
    assert (claimed.fence, claimed.attempt) == (1, 1)
    assert claimed.spec == submission(labels=("bad", "good"), hyperparameters={"steps": 7, "seed": 2**63 - 1}).spec
    assert claimed.hyperparameters.seed == 2**63 - 1
    job = job_of(records, job_id)
    assert (job.status, job.attempt, job.terminal) == ("running", 1, False)
    assert job.started_at
    assert context_of(records, context_id).context.status == "running"


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
    submit(records)
    claimed = claim(records)
    progress: dict[str, str | int | float] = {"step": 2, "fraction": 0.75, "trained_tokens": 90}
    assert records.beat(claimed, progress, remaining_seconds=60.0) == "held"
    job = job_of(records, claimed.job_id)
    assert (job.progress.step, job.progress.fraction, job.trained_tokens) == (2, 0.75, 90)
    assert job.estimated_finish_at
    assert job.started_at
    assert 59 < (job.estimated_finish_at - job.started_at).total_seconds() < 90


def test_estimated_end_counts_the_jobs_ahead(records: Records) -> None:
    contexts = records.of("default").contexts
    seconds = [1, 10, 100]
    jobs = []
    for each in seconds:
        given = submission()
        plan = given.plan.model_copy(update={"estimated_seconds": each})
        jobs.append(contexts.submit(replace(given, plan=plan))[1])
    waits = [(job.estimated_finish_at - job.created_at).total_seconds() for job in jobs if job.estimated_finish_at]
    assert waits == [1, 11, 111]


def test_worker_learns_which_request_a_job_is_of(records: Records) -> None:
    records.of("default").contexts.submit(replace(submission(), request_id="req_1"))
    assert claim(records).request_id == "req_1"
    submit(records)
    assert claim(records).request_id == ""


def test_success_ends_the_job_and_makes_the_context_answer(records: Records) -> None:
    context_id, job_id = submit(records, "intents")
    fields: dict[str, str | int | float] = {"step": 3, "fraction": 1.0, "trained_tokens": 120}
    chosen = submission(hyperparameters={"steps": 2}).plan.hyperparameters
    fields["hyperparameters"] = chosen.model_dump_json()
    assert records.finish_succeeded(claim(records), "address", REPORT, fields, encoder="e5") == "succeeded"
    job, stored = job_of(records, job_id), context_of(records, context_id)
    assert (job.status, job.terminal, job.progress.step, job.trained_tokens) == ("succeeded", True, 3, 120)
    assert job.finished_at
    assert job.estimated_finish_at is None
    assert (stored.context.status, stored.context.report, stored.artifact) == ("succeeded", REPORT, "address")
    assert (stored.context.finished_at, stored.context.hyperparameters) == (job.finished_at, chosen)
    assert stored.context.encoder == "e5"


def test_failure_ends_the_job_with_its_reason(records: Records) -> None:
    context_id, job_id = submit(records)
    assert records.finish_failed(claim(records), FAILURE) == "failed"
    job, context = job_of(records, job_id), context_of(records, context_id).context
    assert (job.status, job.error) == (context.status, context.error) == ("failed", FAILURE)


def test_ended_job_cannot_end_again(records: Records) -> None:
    _, job_id = submit(records)
    claimed = claim(records)
    records.finish_failed(claimed, FAILURE)
    assert records.finish_succeeded(claimed, "address", REPORT, {}) == "failed"
    assert records.beat(claimed) == "lost"
    assert job_of(records, job_id).status == "failed"


def test_worker_that_lost_the_answer_to_its_claim_gets_the_same_job_again(records: Records) -> None:
    jobs = [submit(records)[1] for _ in range(2)]
    first, again = claim(records, "worker-1"), claim(records, "worker-1")
    assert again == first
    assert (first.job_id, job_of(records, jobs[0]).attempt, job_of(records, jobs[1]).status) == (jobs[0], 1, "queued")


def test_repeated_end_gives_the_same_answer(records: Records) -> None:
    submit(records)
    claimed = claim(records)
    endings = [records.finish_succeeded(claimed, "address", REPORT, {}) for _ in range(2)]
    assert endings == ["succeeded", "succeeded"]


def test_failed_attempt_counts_and_the_job_is_queued_again(records: Records) -> None:
    _, job_id = submit(records)
    first = claim(records)
    assert records.retry(first, FAILURE) == "released"
    assert (job_of(records, job_id).status, claim(records).attempt) == ("queued", 2)
    assert records.retry(first, FAILURE) == "lost"


def test_job_fails_after_attempts_without_progress_only(records: Records) -> None:
    _, job_id = submit(records)
    for step in range(1, 5):
        claimed = claim(records)
        assert records.beat(claimed, {"step": step}) == "held"
        assert records.retry(claimed, FAILURE) == "released"
    for _ in range(MAX_ATTEMPTS - 1):
        claimed = claim(records)
        assert records.beat(claimed, {"step": 4}) == "held"
        assert records.retry(claimed, FAILURE) == "released"
    assert records.retry(claim(records), FAILURE) == "failed"
    assert job_of(records, job_id).error == FAILURE


def test_stale_fence_is_refused_everywhere(records: Records, client: redis.Redis) -> None:
    _, job_id = submit(records)
    stale = claim(records)
    overdue(client, job_id)
    records.sweep()
    fresh = claim(records)
    assert fresh.fence > stale.fence
    before = content(client)
    assert records.beat(stale, {"step": 9}) == "lost"
    assert records.finish_succeeded(stale, "address", REPORT, {}) == "lost"
    assert records.finish_failed(stale, FAILURE) == "lost"
    assert records.finish_cancelled(stale) == "lost"
    assert records.release(stale) == "lost"
    assert records.park(stale, 1000) == "lost"
    assert records.message(stale, "hello") == "lost"
    assert content(client) == before
    assert records.beat(fresh) == "held"


def test_released_job_is_first_in_line_and_the_attempt_does_not_count(records: Records) -> None:
    jobs = [submit(records)[1] for _ in range(2)]
    first = claim(records)
    assert records.release(first) == "released"
    assert job_of(records, jobs[0]).status == "queued"
    again = claim(records)
    assert (again.job_id, again.attempt, again.fence) == (jobs[0], 1, 2)


def test_queue_is_bounded_in_all_and_for_each_tenant(client: redis.Redis) -> None:
    records = Records(client, QueueLimits(all=3, tenant=2))
    for _ in range(2):
        submit(records, tenant="a")
    with pytest.raises(QuotaReached, match="queued jobs"):
        submit(records, tenant="a")
    submit(records, tenant="b")
    before = content(client)
    with pytest.raises(QueueFull):
        submit(records, tenant="c")
    assert content(client) == before
    claim(records)
    submit(records, tenant="a")


# -- cancel and delete ------------------------------------------------------------------------------------------------


def test_queued_job_is_cancelled_at_once(records: Records) -> None:
    context_id, job_id = submit(records)
    assert records.of("default").jobs.cancel(job_id) == "queued"
    job = job_of(records, job_id)
    assert (job.status, job.cancel_requested, job.attempt) == ("cancelled", True, 0)
    assert job.finished_at
    assert context_of(records, context_id).context.status == "cancelled"
    assert records.claim([MODEL], "idle") is None


def test_running_job_learns_of_its_cancel_with_its_next_beat(records: Records) -> None:
    _, job_id = submit(records)
    claimed = claim(records)
    assert records.of("default").jobs.cancel(job_id) == "running"
    assert job_of(records, job_id).status == "running"
    assert records.beat(claimed) == "cancel"
    assert records.finish_cancelled(claimed) == "cancelled"
    assert job_of(records, job_id).status == "cancelled"


def test_cancel_wins_over_a_success_that_comes_after_it(records: Records) -> None:
    context_id, job_id = submit(records, "intents")
    claimed = claim(records)
    records.of("default").jobs.cancel(job_id)
    assert records.finish_succeeded(claimed, "address", REPORT, {}) == "cancelled"
    stored = context_of(records, context_id)
    assert (stored.context.status, stored.artifact, stored.context.report) == ("cancelled", None, None)


def test_cancel_after_the_end_changes_nothing(records: Records, client: redis.Redis) -> None:
    job_id = job_id_of(records, succeed(records))
    before = content(client)
    assert records.of("default").jobs.cancel(job_id) == "succeeded"
    assert content(client) == before


def test_cancelled_job_whose_worker_is_lost_ends_cancelled(records: Records, client: redis.Redis) -> None:
    _, job_id = submit(records)
    claim(records)
    records.of("default").jobs.cancel(job_id)
    overdue(client, job_id)
    assert records.sweep() == {JobRef("default", job_id): "cancelled"}


def test_cancelled_job_that_is_released_is_not_run_again(records: Records) -> None:
    _, job_id = submit(records)
    claimed = claim(records)
    records.of("default").jobs.cancel(job_id)
    assert records.release(claimed) == "cancelled"
    assert job_of(records, job_id).status == "cancelled"
    assert records.claim([MODEL], "idle") is None


def test_unknown_job_is_neither_cancelled_nor_deleted(records: Records, client: redis.Redis) -> None:
    jobs = records.of("default").jobs
    assert (jobs.cancel("job_unknown"), jobs.delete("job_unknown"), jobs.get("job_unknown")) == (None, None, None)
    assert content(client) == {}


def test_job_of_another_tenant_is_not_there(records: Records) -> None:
    _, job_id = submit(records, tenant="a")
    others = records.of("b").jobs
    assert (others.get(job_id), others.cancel(job_id), others.delete(job_id)) == (None, None, None)
    assert (others.page(10).data, others.events(job_id)) == ((), [])
    assert job_of(records, job_id, "a").status == "queued"


def test_deleted_job_leaves_its_context(records: Records, client: redis.Redis) -> None:
    context_id = succeed(records, "intents")
    job_id = job_id_of(records, context_id)
    assert records.of("default").jobs.delete(job_id) is None
    assert records.of("default").jobs.get(job_id) is None
    assert records.of("default").jobs.page(10).data == ()
    assert [key for key in client.keys("*") if job_id in key] == []
    assert context_of(records, context_id).context.report == REPORT


@pytest.mark.parametrize("running", [False, True])
def test_job_that_has_not_ended_is_not_deleted(records: Records, running: bool) -> None:
    _, job_id = submit(records)
    if running:
        claim(records)
    assert records.of("default").jobs.delete(job_id) == ("running" if running else "queued")
    assert job_of(records, job_id)


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
    client.set("{ct}:swept", 0)
    assert records.sweep() == {}
    assert records.beat(claimed) == "held"
    overdue(client, job_id)
    assert records.sweep() == {JobRef("default", job_id): "queued"}


def test_overdue_job_is_queued_again_at_its_old_place(records: Records, client: redis.Redis) -> None:
    jobs = [submit(records)[1] for _ in range(2)]
    claim(records)
    overdue(client, jobs[0])
    assert records.sweep() == {JobRef("default", jobs[0]): "queued"}
    assert records.sweep() == {}
    assert [claim(records).job_id for _ in range(2)] == jobs
    assert job_of(records, jobs[0]).attempt == 2


def test_job_that_lost_its_worker_too_often_fails(records: Records, client: redis.Redis) -> None:
    _, job_id = submit(records)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert claim(records).attempt == attempt
        overdue(client, job_id)
        assert records.sweep() == {JobRef("default", job_id): "queued" if attempt < MAX_ATTEMPTS else "failed"}
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
    assert swept == {JobRef("default", job_id): "queued" for job_id in jobs}


def test_ended_jobs_are_removed_once_they_were_kept_long_enough(records: Records, client: redis.Redis) -> None:
    context_id = succeed(records, "intents")
    _, waiting = submit(records)
    assert records.retire() == 0
    assert Records(client, retention=Retention(jobs=-1)).retire() == 1
    assert [job.id for job in records.of("default").jobs.page(10).data] == [waiting]
    assert context_of(records, context_id).context.status == "succeeded"


# -- a newer format ---------------------------------------------------------------------------------------------------


def test_queued_job_of_a_newer_format_is_left_to_others(records: Records, client: redis.Redis) -> None:
    jobs = [submit(records)[1] for _ in range(2)]
    client.hset(f"{{ct}}:t:default:job:{jobs[0]}", "format", 2)
    assert claim(records).job_id == jobs[1]
    assert records.claim([MODEL], "idle") is None


def test_sweep_leaves_an_overdue_job_of_a_newer_format(records: Records, client: redis.Redis) -> None:
    jobs = [submit(records)[1] for _ in range(2)]
    for job_id in jobs:
        claim(records)
        overdue(client, job_id)
    client.hset(f"{{ct}}:t:default:job:{jobs[0]}", "format", 2)
    assert records.sweep() == {JobRef("default", jobs[1]): "queued"}
    assert client.hget(f"{{ct}}:t:default:job:{jobs[0]}", "status") == "running"
