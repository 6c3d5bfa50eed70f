"""Examples and reports are files; a row holds their addresses."""

from pathlib import Path

import pytest
import redis

from app.records.bodies import Bodies, BodyCorrupt
from app.records.contexts import QueueFull
from app.records.files import ArtifactsUnavailable
from app.records.limits import QueueLimits
from app.records.store import Records
from tests.app.records.steps import REPORT, claim, content, context_of, job_of, submit, succeed
from tests.submissions import EXAMPLES, MODEL


def files(folder: Path) -> list[Path]:
    return [path for path in (folder / "artifacts").rglob("*") if path.is_file()]


def test_store_holds_no_texts_and_a_deletion_leaves_none(records: Records, client: redis.Redis, tmp_path: Path) -> None:
    context_id = succeed(records)
    assert len(files(tmp_path)) == 2
    assert EXAMPLES[0].text not in str(content(client))
    assert context_of(records, context_id).context.report == REPORT
    contexts = records.of("default").contexts
    spec = contexts.specs.get(context_id)
    assert spec
    assert spec.examples == EXAMPLES
    deletion = contexts.delete(context_id)
    assert deletion
    bodies = Bodies(f"file://{tmp_path}/artifacts")
    for address in set(deletion.files.addresses) - {"address"}:
        bodies.remove(address)
    assert files(tmp_path) == []


def test_examples_that_two_contexts_have_are_one_file_until_both_are_gone(records: Records, tmp_path: Path) -> None:
    ids = [submit(records)[0] for _ in range(2)]
    assert len(files(tmp_path)) == 1
    first, second = [records.of("default").contexts.delete(context_id) for context_id in ids]
    assert first
    assert second
    assert (len(first.files.addresses), len(second.files.addresses)) == (0, 1)


def test_context_that_is_refused_leaves_no_file(client: redis.Redis, tmp_path: Path) -> None:
    records = Records(client, QueueLimits(all=0), artifacts_url=f"file://{tmp_path}/artifacts")
    with pytest.raises(QueueFull):
        submit(records)
    assert files(tmp_path) == []
    assert client.exists("{ct}:pending", "{ct}:collecting") == 0


def test_context_whose_examples_cannot_be_written_is_not_created(client: redis.Redis) -> None:
    records = Records(client, artifacts_url="unheard-of://bucket")
    with pytest.raises(ArtifactsUnavailable):
        submit(records)
    assert records.of("default").contexts.page(10).data == ()


def test_job_whose_examples_cannot_be_read_now_is_queued_again(
    records: Records, client: redis.Redis, tmp_path: Path
) -> None:
    _, job_id = submit(records)
    with pytest.raises(ArtifactsUnavailable):
        Records(client, artifacts_url="unheard-of://bucket").claim([MODEL], "worker-1")
    assert (job_of(records, job_id).status, job_of(records, job_id).attempt) == ("queued", 0)
    assert claim(records).job_id == job_id


def test_job_whose_examples_are_gone_fails(records: Records, tmp_path: Path) -> None:
    context_id, job_id = submit(records)
    for path in files(tmp_path):
        path.unlink()
    assert records.claim([MODEL], "worker-1") is None
    assert job_of(records, job_id).status == "failed"
    with pytest.raises(BodyCorrupt):
        records.of("default").contexts.specs.get(context_id)


def test_body_that_was_changed_is_not_taken_for_what_it_was(records: Records, tmp_path: Path) -> None:
    context_id = succeed(records)
    for path in files(tmp_path):
        path.write_text("{}")
    with pytest.raises(BodyCorrupt):
        records.of("default").contexts.get(context_id)
    assert records.of("default").contexts.resolve(context_id, report=False)


def test_report_of_a_job_that_was_cancelled_is_not_kept(records: Records, tmp_path: Path) -> None:
    _, job_id = submit(records)
    claimed = claim(records)
    records.of("default").jobs.cancel(job_id)
    assert records.finish_succeeded(claimed, "address", REPORT, {}) == "cancelled"
    assert len(files(tmp_path)) == 1
