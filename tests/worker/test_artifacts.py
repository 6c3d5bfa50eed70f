import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

import fsspec
import pytest

from worker.artifacts import ArtifactCorrupt, Artifacts

CONTENT = b"tuned" * 10_000


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a disk that is full: longer writes fail half-way."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_artifact_is_found_by_its_address(artifacts: Artifacts, tmp_path: Path) -> None:
    address = artifacts.put(CONTENT)
    assert artifacts.get(address) == CONTENT
    assert artifacts.put(CONTENT) == address
    assert artifacts.put(b"other") != address
    assert len(files(tmp_path)) == 2


def test_any_fsspec_url_will_do() -> None:
    artifacts = Artifacts("memory://here/artifacts/")
    address = artifacts.put(CONTENT)
    assert artifacts.get(address) == CONTENT
    artifacts.remove(address)
    assert fsspec.filesystem("memory").find("/here") == []


def test_missing_artifact_is_not_found(artifacts: Artifacts) -> None:
    with pytest.raises(FileNotFoundError):
        artifacts.get("0" * 64)


@pytest.mark.parametrize("damaged", [b"", CONTENT[:-1], CONTENT + b"x", b"x" + CONTENT[1:]])
def test_damaged_artifact_is_refused_and_can_be_put_again(artifacts: Artifacts, tmp_path: Path, damaged: bytes) -> None:
    address = artifacts.put(CONTENT)
    files(tmp_path)[0].write_bytes(damaged)
    with pytest.raises(ArtifactCorrupt):
        artifacts.get(address)
    artifacts.put(CONTENT)
    assert artifacts.get(address) == CONTENT


def test_artifact_is_written_whole_or_not_at_all(artifacts: Artifacts, tmp_path: Path) -> None:
    with files_of_at_most(1_000), pytest.raises(OSError, match="too large"):
        artifacts.put(CONTENT)
    assert files(tmp_path) == []


def test_checkpoint_stays_when_the_next_cannot_be_written(artifacts: Artifacts, tmp_path: Path) -> None:
    artifacts.put_checkpoint("job_1", b"first")
    with files_of_at_most(1_000), pytest.raises(OSError, match="too large"):
        artifacts.put_checkpoint("job_1", CONTENT)
    assert artifacts.get_checkpoint("job_1") == b"first"
    assert len(files(tmp_path)) == 1


def test_readers_never_see_a_part_of_an_artifact(artifacts: Artifacts, tmp_path: Path) -> None:
    address = artifacts.put(CONTENT)
    writers = [Thread(target=lambda: [artifacts.put(CONTENT) for _ in range(50)]) for _ in range(2)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert artifacts.get(address) == CONTENT
    assert len(files(tmp_path)) == 1


def test_removed_artifact_is_gone_and_removing_it_again_is_no_fault(artifacts: Artifacts, tmp_path: Path) -> None:
    address = artifacts.put(CONTENT)
    artifacts.remove(address)
    artifacts.remove(address)
    assert files(tmp_path) == []


def test_checkpoint_is_replaced_and_removed(artifacts: Artifacts, tmp_path: Path) -> None:
    assert artifacts.get_checkpoint("job_1") is None
    artifacts.put_checkpoint("job_1", b"first")
    artifacts.put_checkpoint("job_2", b"other")
    artifacts.put_checkpoint("job_1", b"second")
    assert artifacts.get_checkpoint("job_1") == b"second"
    artifacts.remove_checkpoint("job_1")
    artifacts.remove_checkpoint("job_1")
    assert artifacts.get_checkpoint("job_1") is None
    assert artifacts.get_checkpoint("job_2") == b"other"


def test_removed_artifacts_leave_no_folders(artifacts: Artifacts, tmp_path: Path) -> None:
    addresses = [artifacts.put(bytes([number])) for number in range(20)]
    for address in addresses:
        artifacts.remove(address)
    assert list((tmp_path / "artifacts").iterdir()) == []


def test_artifacts_are_written_while_others_of_their_folder_are_removed(artifacts: Artifacts, tmp_path: Path) -> None:
    content = b"the same again and again"
    address = artifacts.put(content)
    folder = (tmp_path / "artifacts" / address[:2]).resolve()
    done = Event()

    def remove_the_folder() -> None:
        while not done.wait(0.0002):  # which lets the writer have its turn in this process
            with suppress(OSError):
                folder.rmdir()

    thread = Thread(target=remove_the_folder)
    thread.start()
    try:
        for _ in range(100):
            artifacts.remove(address)
            artifacts.put(content)
    finally:
        done.set()
        thread.join()
    assert artifacts.get(address) == content
