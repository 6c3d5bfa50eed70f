import pytest

from app.contexts.lookup import find_ready, find_spec
from app.errors import DomainError
from app.records.store import Records
from tests.app.records.steps import FAILURE, claim, submit, succeed
from tests.submissions import EXAMPLES


def refusal(records: Records, ref: str) -> DomainError:
    with pytest.raises(DomainError) as caught:
        find_ready(records.of("default"), ref)
    return caught.value


def test_context_that_has_succeeded_can_answer(records: Records) -> None:
    context_id = succeed(records, "intents")
    for ref in (context_id, "intents", "intents@1"):
        stored, artifact = find_ready(records.of("default"), ref)
        assert (stored.context.id, artifact) == (context_id, "address")
    assert refusal(records, "intents@2").code == "context_not_found"


def test_context_whose_job_has_not_ended_is_told_with_the_job_and_when_to_try_again(records: Records) -> None:
    context_id, job_id = submit(records, "intents")
    for ref in (context_id, "intents"):
        error = refusal(records, ref)
        assert (error.code, error.param) == ("context_not_ready", "/context")
        assert job_id in error.detail
        assert error.retry_after
        assert 1 <= error.retry_after <= 60


def test_context_that_will_never_answer_is_told_apart(records: Records) -> None:
    context_id, job_id = submit(records, "intents")
    records.finish_failed(claim(records), FAILURE)
    for ref in (context_id, "intents"):
        error = refusal(records, ref)
        assert (error.code, error.param, error.retry_after) == ("context_failed", "/context", None)
        assert job_id in error.detail


def test_name_waits_for_the_version_that_may_still_succeed(records: Records) -> None:
    _, job_id = submit(records, "intents")
    _, cancelled = submit(records, "intents")
    records.of("default").jobs.cancel(cancelled)
    error = refusal(records, "intents")
    assert error.code == "context_not_ready"
    assert job_id in error.detail
    assert refusal(records, "intents@2").code == "context_failed"


def test_what_a_context_was_made_of_is_found(records: Records) -> None:
    context_id, _ = submit(records, "intents")
    stored, spec = find_spec(records.of("default"), "intents")
    assert spec is not None
    assert (stored.context.id, spec.examples) == (context_id, EXAMPLES)
    with pytest.raises(DomainError) as caught:
        find_spec(records.of("default"), "unknown")
    assert caught.value.code == "context_not_found"
