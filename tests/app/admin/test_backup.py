"""A backup is the whole installation; a restore of it is the same installation elsewhere."""

import io
import json
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from app.admin.backup import HEAD, RECORDS, TAIL, BackupFailed, read_backup, write_backup
from app.contexts.deletion import collect, delete
from app.contract.access import ALL_SCOPES, KeyLimits
from app.contract.names import JobStatus, artifact_url
from app.records.backups import Backups, BackupUnderWay, StoreNotEmpty
from app.records.connection import StoreRefused, StoreUnavailable, new_id
from app.records.files import ArtifactsUnavailable, FilesKept, write_file
from app.records.garbage import FilesLeft
from tests.app.admin.installations import ADDRESS, Installation, quietly
from tests.app.records.steps import REPORT, claim, content, context_of, job_id_of, job_of, submit
from tests.submissions import EXAMPLES

SECRET = "ab" * 32


def durable(one: Installation) -> dict[str, Any]:
    """All that a backup holds but for counts of what waits, and since when."""
    found = content(one.client)
    for key, value in found.items():
        if isinstance(value, dict):
            found[key] = {name: text for name, text in value.items() if name != "queued_at"}
    counts = ("{ct}:backlog", "{ct}:queued", "{ct}:turn", "{ct}:waiting:", "{ct}:audited:")
    return {key: value for key, value in found.items() if not key.startswith(counts)}


def test_what_is_restored_is_what_was_backed_up(here: Installation, there: Installation, file: Path) -> None:
    context_id = here.tuned("intents")
    tenant = here.records.of("default")
    tenant.contexts.set_alias("intents", "prod", 1)
    tenant.audit.append(None, "context.create", context_id)
    here.records.access.create_key(new_id("key"), SECRET, "acme", "theirs", ALL_SCOPES, KeyLimits(), None)
    theirs, _ = submit(here.records, tenant="acme", metadata={"team": "support"})
    here.back_up(file)
    before, files = durable(here), here.files()
    there.restore(file)
    assert there.files() == files
    assert durable(there) == before
    resolved = there.records.of("default").contexts.resolve("intents@prod")
    assert resolved is not None
    assert resolved.context.report is not None
    assert resolved.context.id == context_id
    spec = there.records.of("acme").contexts.specs.get(theirs)
    assert spec is not None
    assert spec.examples == EXAMPLES
    delete(there.records.of("acme"), there.root, theirs)
    assert len(there.files()) == len(files), "the file of the same examples has another user"


def test_jobs_that_had_not_ended_are_queued_anew_and_uncounted(
    here: Installation, there: Installation, file: Path
) -> None:
    _, first = submit(here.records)
    _, second = submit(here.records)
    running = claim(here.records)
    assert (running.job_id, running.attempt) == (first, 1)
    here.back_up(file)
    there.restore(file)
    assert [job_of(there.records, one).status for one in (first, second)] == [JobStatus.QUEUED] * 2
    taken = [claim(there.records) for _ in range(2)]
    assert [(one.job_id, one.attempt) for one in taken] == [(first, 1), (second, 1)]
    assert taken[0].fence > running.fence
    assert there.records.finish_succeeded(taken[0], "", REPORT, {}) == "succeeded"


def test_files_are_kept_while_a_backup_is_made(here: Installation) -> None:
    context_id = here.tuned()
    tenant, backups = here.records.of("default"), Backups.at(here.url)
    job_id = job_id_of(here.records, context_id)
    backups.hold("me")
    with pytest.raises(BackupUnderWay):
        backups.hold("another")
    with pytest.raises(FilesKept, match="a backup is being made"):
        delete(tenant, here.root, context_id)
    collect(here.records, here.root)
    assert not isinstance(tenant.jobs.delete(job_id), FilesLeft), "the job of a context has no files of its own"
    assert context_of(here.records, context_id).artifact == ADDRESS
    backups.let_go("me")
    assert not backups.renew("me")
    delete(tenant, here.root, context_id)
    assert here.files() == {}


def test_files_that_are_missing_or_damaged_are_named_and_left_out(
    here: Installation, there: Installation, file: Path
) -> None:
    here.tuned()
    write_file(artifact_url(here.root, ADDRESS), b"something else")
    found = write_backup(Backups.at(here.url), here.root, file, quietly)
    assert found.damaged == (ADDRESS,)
    there.restore(file)
    assert len(there.files()) == found.artifacts


def test_backup_is_readable_by_its_owner_alone_and_takes_no_other_files_place(here: Installation, file: Path) -> None:
    here.back_up(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(BackupFailed, match="is there already"):
        here.back_up(file)


def test_only_an_empty_store_is_restored_into(here: Installation, there: Installation, file: Path) -> None:
    here.tuned()
    here.back_up(file)
    submit(there.records)
    before = content(there.client)
    with pytest.raises(StoreNotEmpty):
        there.restore(file)
    assert content(there.client) == before
    assert list(there.folder.glob("*/*.safetensors")) == []


def test_restore_that_was_broken_off_keeps_programs_out_until_it_is_repeated(
    here: Installation, there: Installation, file: Path, tmp_path: Path
) -> None:
    here.tuned("intents")
    here.back_up(file)
    with pytest.raises(ArtifactsUnavailable):
        read_backup(Backups.at(there.url, to_restore=True), "unheard-of://bucket", file, quietly)
    with pytest.raises(StoreRefused, match="run `contextune restore` again"):
        there.records.of("default").contexts.resolve("intents")
    there.restore(file)
    assert there.records.of("default").contexts.resolve("intents") is not None
    assert durable(there) == durable(here)


def changed(file: Path, name: str, text: bytes) -> Path:
    """A copy of a backup with other content in one of its members."""
    other = file.with_name("changed.tar")
    with tarfile.open(file) as old, tarfile.open(other, "w") as new:
        for member in old:
            held = old.extractfile(member)
            assert held is not None
            whole = text if member.name == name else held.read()
            member.size = len(whole)
            new.addfile(member, io.BytesIO(whole))
    return other


def test_damaged_and_newer_backups_are_refused_by_name(here: Installation, there: Installation, file: Path) -> None:
    here.tuned()
    here.back_up(file)
    newer = changed(file, HEAD, json.dumps({"format": 2, "release": "9.9"}).encode())
    with pytest.raises(BackupFailed, match=r"by release 9\.9, which is newer"):
        there.restore(newer)
    whole = file.read_bytes()
    for cut in (whole[: whole.index(TAIL.encode())], b"", b"not a tar file"):
        file.with_name("cut.tar").write_bytes(cut)
        with pytest.raises(BackupFailed):
            there.restore(file.with_name("cut.tar"))
    assert content(there.client) == {}
    with pytest.raises(BackupFailed, match="is not what its name says"):
        there.restore(changed(file, f"artifacts/{ADDRESS}", b"evil"))
    there.restore(file)


def member(file: Path, name: str) -> bytes:
    with tarfile.open(file) as tar:
        held = tar.extractfile(name)
        assert held is not None
        return held.read()


def test_damaged_records_are_refused_before_anything_is_written(
    here: Installation, there: Installation, file: Path
) -> None:
    here.tuned("intents")
    here.back_up(file)
    records = member(file, RECORDS)
    for damaged in (records.replace(b"intents", b"intentz", 1), b"\xff" + records[1:], records.replace(b"\n", b" ", 1)):
        with pytest.raises(BackupFailed, match="is damaged"):
            there.restore(changed(file, RECORDS, damaged))
    assert content(there.client) == {}
    assert there.files() == {}


@pytest.mark.parametrize("line", [b"\xff\n", b"[\n", b"null\n", b'["t:acme:jobs","zset",-1,["job_1"]]\n'])
def test_backup_without_a_hash_of_its_records_is_restored_unless_they_are_no_rows(
    here: Installation, there: Installation, file: Path, line: bytes
) -> None:
    here.tuned("intents")
    here.back_up(file)
    stated = json.loads(member(file, TAIL))
    del stated["records_sha256"]
    older = changed(file, TAIL, json.dumps(stated).encode()).rename(file.with_name("older.tar"))
    stated["rows"] += 1
    other = changed(file, TAIL, json.dumps(stated).encode()).rename(file.with_name("other.tar"))
    with pytest.raises(BackupFailed, match="damaged"):
        there.restore(changed(other, RECORDS, member(file, RECORDS) + line))
    there.restore(older)
    assert durable(there) == durable(here)


def test_store_that_does_not_answer_is_no_backup(tmp_path: Path, file: Path) -> None:
    with pytest.raises(StoreUnavailable):
        write_backup(Backups.at(f"unix://{tmp_path}/nowhere.sock"), f"file://{tmp_path}", file, quietly)
    assert list(tmp_path.glob("*backup*")) == []
