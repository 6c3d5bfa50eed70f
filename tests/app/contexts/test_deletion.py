"""A deletion is true when it is answered."""

from pathlib import Path
from threading import Thread

import pytest
import redis

from app.artifacts import remove_artifact, remove_artifacts, remove_checkpoint, remove_each
from app.contexts.deletion import collect, delete, finish
from app.contract.names import artifact_url, checkpoint_url
from app.errors import DomainError
from app.records.files import ArtifactsUnavailable
from app.records.garbage import ObjectRef
from app.records.limits import Retention
from app.records.store import Records
from tests.app.artifact_files import partly_written, written
from tests.app.records.steps import REPORT, claim, expire_removals, submit
from tests.submissions import overdue
from tests.waiting import eventually

ADDRESS = "ab" * 32


@pytest.fixture
def root(tmp_path: Path) -> str:
    return f"file://{tmp_path}/artifacts"


def tuned(records: Records, root: str, name: str | None = None, tenant: str = "default") -> tuple[str, list[Path]]:
    """Id of a context that can answer, and its files."""
    context_id, job_id = submit(records, name, tenant)
    claimed = claim(records)
    assert records.begin_write(claimed, ADDRESS) == "go"
    urls = artifact_url(root, ADDRESS), checkpoint_url(root, job_id)
    files = [*map(written, urls), *map(partly_written, urls)]
    assert records.finish_succeeded(claimed, ADDRESS, REPORT, {}) == "succeeded"
    return context_id, files


def test_files_go_with_their_context_and_deleting_again_is_no_fault(records: Records, root: str) -> None:
    context_id, files = tuned(records, root)
    for _ in range(2):
        delete(records.of("default"), root, context_id)
        assert not any(file.exists() for file in files)
    delete(records.of("default"), root, "ctx_unknown")


def test_files_of_an_attempt_that_died_go_with_their_context(records: Records, client: redis.Redis, root: str) -> None:
    (context_id, job_id), other = submit(records), "cd" * 32
    died = claim(records)
    for address in (ADDRESS, other):
        assert records.begin_write(died, address) == "go"
    files = [written(artifact_url(root, address)) for address in (ADDRESS, other)]
    overdue(client, job_id)
    records.sweep()
    claimed = claim(records)
    assert records.begin_write(claimed, ADDRESS) == "go"
    assert records.finish_succeeded(claimed, ADDRESS, REPORT, {}) == "succeeded"
    delete(records.of("default"), root, context_id)
    assert [file.exists() for file in files] == [False, False]
    assert client.exists("{ct}:pending", "{ct}:collecting", "{ct}:deleting") == 0


def test_files_of_an_attempt_that_died_go_with_their_context_also_without_its_job(
    records: Records, client: redis.Redis, root: str
) -> None:
    (context_id, job_id), owned = submit(records), records.of("default")
    assert records.begin_write(claim(records), ADDRESS) == "go"
    file = written(artifact_url(root, ADDRESS))
    overdue(client, job_id)
    records.sweep()
    owned.jobs.cancel(job_id)
    assert owned.jobs.delete(job_id) is None
    delete(owned, root, context_id)
    assert not file.exists()
    assert client.exists("{ct}:pending", "{ct}:collecting", "{ct}:deleting") == 0


def test_file_that_another_context_refers_to_stays(records: Records, root: str) -> None:
    first, _ = tuned(records, root)
    second, files = tuned(records, root, tenant="other")
    delete(records.of("default"), root, first)
    assert files[0].exists()
    delete(records.of("other"), root, second)
    assert not files[0].exists()


def test_files_that_cannot_be_removed_are_an_error_until_they_can(records: Records, root: str) -> None:
    context_id, files = tuned(records, root)
    for _ in range(2):
        with pytest.raises(ArtifactsUnavailable):
            delete(records.of("default"), "unheard-of://bucket", context_id)
    assert records.of("default").contexts.get(context_id) is None
    assert files[0].exists()
    delete(records.of("default"), root, context_id)
    assert not any(file.exists() for file in files)


def test_deletion_that_a_crash_broke_off_is_ended_by_a_sweep(records: Records, client: redis.Redis, root: str) -> None:
    context_id, files = tuned(records, root)
    records.of("default").contexts.delete(context_id)
    finish(records, root)
    assert files[0].exists()  # whoever deletes it may still be at it
    client.zincrby("{ct}:deleting", -61_000, f"default:{context_id}")
    assert records.garbage.deletions() == [ObjectRef("default", context_id)]
    client.zincrby("{ct}:deleting", -61_000, f"default:{context_id}")
    expire_removals(client)
    finish(records, root)
    assert not any(file.exists() for file in files)
    assert client.zcard("{ct}:deleting") == client.zcard("{ct}:collecting") == 0


def test_files_that_cannot_be_removed_hold_up_no_others(client: redis.Redis, tmp_path: Path) -> None:
    records, root = Records(client, retention=Retention(unreferenced=-1)), f"file://{tmp_path}"
    stuck, free = ADDRESS, "cd" * 32
    for address in (stuck, free):
        context_id, _ = submit(records)
        claimed = claim(records)
        assert records.begin_write(claimed, address) == "go"
        assert records.finish_succeeded(claimed, address, REPORT, {}) == "succeeded"
        records.of("default").contexts.delete(context_id)
        client.zincrby("{ct}:deleting", -61_000, f"default:{context_id}")
        expire_removals(client)
    Path(artifact_url(root, stuck).removeprefix("file://")).mkdir(parents=True)
    file = written(artifact_url(root, free))
    with pytest.raises(ArtifactsUnavailable):
        finish(records, root)
    assert not file.exists()
    for address in (stuck, free):  # writers that died
        submit(records)
        assert records.begin_write(claim(records), address) == "go"
    written(artifact_url(root, free))
    with pytest.raises(ArtifactsUnavailable):
        collect(records, root)
    assert not file.exists()


def test_folder_that_fails_slowly_is_not_asked_for_every_file() -> None:
    asked: list[int] = []

    def remove(number: int) -> None:
        asked.append(number)
        raise ArtifactsUnavailable("out of reach")

    for patience, expected in ((60.0, [1, 2, 3]), (-1.0, [1])):
        asked.clear()
        with pytest.raises(ArtifactsUnavailable):
            remove_each(remove, (1, 2, 3), patience)
        assert asked == expected


def test_deletion_waits_until_the_worker_has_let_go(records: Records, root: str) -> None:
    context_id, _ = submit(records)
    claimed = claim(records)
    assert records.begin_write(claimed, ADDRESS) == "go"
    deleting = Thread(target=delete, args=(records.of("default"), root, context_id))
    deleting.start()
    eventually(lambda: records.beat(claimed) == "lost")
    file = written(artifact_url(root, ADDRESS))  # the write that was under way
    assert deleting.is_alive()
    assert records.let_go(claimed)
    deleting.join(30)
    assert not file.exists()


def test_deletion_waits_for_a_dead_worker_no_longer_than_its_lease(records: Records, root: str) -> None:
    context_id, job_id = submit(records)
    claim(records)
    checkpoint = written(checkpoint_url(root, job_id))
    delete(records.of("default"), root, context_id)
    assert not checkpoint.exists()


def test_content_that_is_posted_again_stays_when_a_repeated_deletion_ends(records: Records, root: str) -> None:
    contexts, (context_id, job_id) = records.of("default").contexts, submit(records)
    records.of("default").jobs.cancel(job_id)
    first, repeated = contexts.delete(context_id), contexts.delete(context_id)
    assert first is not None
    assert repeated is not None
    assert (len(first.files.addresses), repeated.files.addresses) == (1, ())
    assert repeated.files.wait_seconds > 0
    assert contexts.deleted(context_id, first.files, remove_artifacts(root, first.files))
    submit(records)
    assert contexts.delete(context_id, repeated) is None
    assert contexts.deleted(context_id, repeated.files, first.files.addresses)  # also from one that took it for its own
    assert claim(records).spec.examples


def test_content_that_is_posted_before_a_remover_returns_stays(
    records: Records, client: redis.Redis, root: str
) -> None:
    contexts, (context_id, job_id) = records.of("default").contexts, submit(records)
    records.of("default").jobs.cancel(job_id)
    assert contexts.delete(context_id)
    expire_removals(client)
    submit(records)
    delete(records.of("default"), root, context_id)
    assert claim(records).spec.examples
    assert client.exists("{ct}:deleting", "{ct}:collecting", "{ct}:collectors") == 0


def test_who_deletes_a_context_waits_for_another_that_does(records: Records, client: redis.Redis, root: str) -> None:
    context_id, files = tuned(records, root)
    first = records.of("default").contexts.delete(context_id)
    assert first is not None
    other = Thread(target=delete, args=(records.of("default"), root, context_id))
    other.start()
    gone = remove_artifacts(root, first.files)
    assert other.is_alive()
    assert records.of("default").contexts.deleted(context_id, first.files, gone)
    other.join(30)
    assert not files[0].exists()


def test_context_with_an_alias_is_not_deleted(records: Records, root: str) -> None:
    context_id, files = tuned(records, root, "intents")
    records.of("default").contexts.set_alias("intents", "prod", 1)
    with pytest.raises(DomainError) as caught:
        delete(records.of("default"), root, context_id)
    assert caught.value.code == "context_in_use"
    assert all(file.exists() for file in files)


def test_removing_what_is_not_there_is_no_fault(root: str) -> None:
    remove_artifact(root, "address")
    remove_checkpoint(root, "job_1")
