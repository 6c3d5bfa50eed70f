"""A backup of what changes meanwhile, and a restore into a store that is in use, leave nothing half done."""

from pathlib import Path

import pytest

from app.admin.tenants import remove_deleted
from app.contexts.deletion import collect, delete
from app.contract.access import ALL_SCOPES, KeyLimits
from app.contract.tuning import Example
from app.jobs.ending import delete as delete_job
from app.jobs.ending import remove_files
from app.records.backups import Backups
from app.records.connection import StoreRefused, new_id
from app.records.garbage import FilesLeft
from tests.app.admin.installations import ADDRESS, Installation
from tests.app.records.steps import REPORT, claim, content, submit, succeed
from tests.submissions import submission

OTHERS = (Example(text="what a user wrote", label="a"), Example(text="something else", label="b"))


def make_key(one: Installation, number: int, tenant: str) -> None:
    made = new_id("key"), f"{number:064x}", tenant, f"key {number}", ALL_SCOPES, KeyLimits(), None
    assert one.records.access.create_key(*made)


def keys(one: Installation, tenant: str | None) -> list[str]:
    return [key.name for key in one.records.access.keys(10, None, tenant).data]


def tenants(one: Installation) -> list[str]:
    return [tenant.id for tenant in one.records.access.tenants(10, None).data]


def unused(one: Installation) -> set[str]:
    """Files that nothing refers to."""
    return {name for name in one.files() if not one.client.exists(f"{{ct}}:refs:{name.removesuffix('.safetensors')}")}


def sweep(one: Installation) -> None:
    """Do what a gateway does with files that nobody wants."""
    remove_files(one.records, one.root)
    collect(one.records, one.root)


def test_keys_that_come_and_go_while_a_backup_is_made_are_there_whole_or_not_at_all(
    here: Installation, there: Installation, file: Path
) -> None:
    for number in range(3):
        make_key(here, number, "acme")
    submit(here.records)
    revoked = here.records.access.keys(10, None, "acme").data[0]

    def come_and_go() -> None:
        here.records.access.delete_key(revoked.id, "acme")
        make_key(here, 3, "acme")
        make_key(here, 4, "newco")

    here.back_up(file, come_and_go)
    there.restore(file)
    for tenant in (None, "acme", "newco"):
        assert keys(there, tenant) == keys(here, tenant)
    assert tenants(there) == ["newco", "acme"]
    assert there.records.access.delete_tenant("acme")
    assert keys(there, None) == ["key 4"]


@pytest.mark.parametrize("missing", ["key:", "tenant:", "keys", "hashes"])
def test_key_of_which_a_backup_has_a_part_is_left_out(here: Installation, there: Installation, missing: str) -> None:
    make_key(here, 0, "acme")
    backups = Backups.at(there.url, to_restore=True)
    backups.begin_restore()
    backups.restore(line for line in Backups.at(here.url).rows() if not line.startswith(f'["{missing}'))
    backups.end_restore()
    whole = missing == "hashes"  # the rest tells what stands there
    assert keys(there, None) == keys(there, "acme") == (["key 0"] if whole else [])
    assert bool(there.records.access.find(f"{0:064x}").found) == whole
    assert there.client.hlen("{ct}:hashes") == whole
    assert tenants(there) == ([] if missing == "tenant:" else ["acme"])


def test_tenant_that_was_removed_while_a_backup_was_made_is_removed_after_it(
    here: Installation, there: Installation, file: Path
) -> None:
    make_key(here, 0, "acme")
    here.records.of("acme").audit.append(None, "key.create", "key_0")
    submit(here.records)

    def remove() -> None:
        here.records.access.delete_tenant("acme")
        remove_deleted(here.records, here.root)
        assert here.records.access.tenant("acme") is None

    here.back_up(file, remove)
    there.restore(file)
    remove_deleted(there.records, there.root)
    assert there.records.access.tenant("acme") is None
    assert there.client.keys("{ct}:t:acme:*") == []


def test_files_of_what_was_created_while_a_backup_was_made_are_not_kept(
    here: Installation, there: Installation, file: Path
) -> None:
    first, _ = submit(here.records)
    claimed = claim(here.records)

    def create_and_succeed() -> None:
        submit(here.records, examples=OTHERS)
        assert here.records.finish_succeeded(claimed, "", REPORT, {}) == "succeeded"

    here.back_up(file, create_and_succeed)
    there.restore(file)
    assert len(there.files()) == 3
    assert len(unused(there)) == 2, "the examples of the later context, and the report of the earlier one"
    sweep(there)
    assert len(there.files()) == 1
    delete(there.records.of("default"), there.root, first)
    assert there.files() == {}


def test_file_that_is_written_again_is_not_collected(here: Installation, there: Installation, file: Path) -> None:
    submit(here.records)
    here.back_up(file, lambda: submit(here.records, examples=OTHERS))
    there.restore(file)
    submit(there.records, examples=OTHERS)
    sweep(there)
    assert unused(there) == set()
    assert len(there.files()) == 2


def test_files_of_a_batch_whose_deletion_had_begun_are_removed_after_a_restore(
    here: Installation, there: Installation, file: Path
) -> None:
    claimed = here.batch()
    here.add_chunk(claimed, 0)
    assert here.records.batch_work.finish(claimed, None, None) == "succeeded"
    jobs = here.records.of("default").jobs
    begun = jobs.delete(claimed.job_id)
    assert isinstance(begun, FilesLeft)
    here.back_up(file)
    there.restore(file)
    sweep(there)
    assert [name for name in there.files() if name.endswith(".jsonl")] == []
    assert there.client.keys("{ct}:t:default:files:*") == there.client.keys("{ct}:removing") == []


def test_what_was_retired_before_a_backup_is_removed_after_a_restore(
    here: Installation, there: Installation, file: Path
) -> None:
    claimed = here.batch()
    here.add_chunk(claimed, 0)
    assert here.records.batch_work.finish(claimed, None, None) == "succeeded"
    here.client.zadd("{ct}:ended:batch", {f"default:{claimed.job_id}": 1})
    assert here.records.retire() == 1
    here.back_up(file)
    there.restore(file)
    assert [name for name in there.files() if name.endswith(".jsonl")]
    sweep(there)
    assert [name for name in there.files() if name.endswith(".jsonl")] == []
    assert there.client.keys("{ct}:t:default:files:*") == there.client.keys("{ct}:removing") == []


def test_chunks_that_came_while_a_backup_was_made_are_done_again_and_once(
    here: Installation, there: Installation, file: Path
) -> None:
    claimed = here.batch()
    here.add_chunk(claimed, 0)
    here.back_up(file, lambda: here.add_chunk(claimed, 1))
    there.restore(file)
    assert there.client.keys("{ct}:removing") == []
    assert len(unused(there)) == 1
    sweep(there)
    done = there.records.of("default").batches.done(claimed.job_id)
    assert done
    assert len(done.chunks) == 1
    there.records.of("default").jobs.cancel(claimed.job_id)
    delete_job(there.records.of("default"), there.root, claimed.job_id)
    assert [name for name in there.files() if name.endswith(".jsonl")] == []


def test_store_that_a_gateway_uses_takes_nothing_while_a_backup_is_restored(
    here: Installation, there: Installation, file: Path
) -> None:
    context_id = here.tuned("intents")
    here.back_up(file)
    there.records.sweep()  # a gateway that runs, of which there is nothing else in the store
    contexts = there.records.of("default").contexts

    def use(_: str) -> None:
        with pytest.raises(StoreRefused, match="being restored"):
            contexts.submit(submission("mine"))
        with pytest.raises(StoreRefused):
            there.records.sweep()
        with pytest.raises(StoreRefused):
            contexts.page(10)

    there.restore(file, use)
    assert [one.context.id for one in contexts.page(10).data] == [context_id]
    succeed(there.records, "mine")
    assert content(there.client)["{ct}:t:default:artifact_bytes"]
    assert ADDRESS in " ".join(there.files())
