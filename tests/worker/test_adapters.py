"""Exports as a worker writes them: nothing is left of one that nobody waits for any more."""

from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from app.contract.adapters import ExportReply, ExportRequest
from app.contract.names import DEFAULT_TENANT
from app.contract.tuning import TuningSpec
from app.records.limits import Retention
from app.records.store import Records
from app.records.uploads import Upload
from tests.submissions import EXAMPLES
from tests.worker.tiny import stored_context
from worker.adapters import exported
from worker.artifacts import Artifacts
from worker.models import LanguageModel


class Watched(Artifacts):
    """Artifacts that call ``on_read`` whenever one is read."""

    on_read: Callable[[], None] = staticmethod(lambda: None)

    def get(self, address: str) -> bytes:
        self.on_read()
        return super().get(address)


@pytest.fixture
def artifacts(tmp_path: Path) -> Watched:
    return Watched(f"file://{tmp_path}/artifacts")


@pytest.fixture
def upload(records: Records) -> Upload:
    """The file that a gateway waits for."""
    upload = records.of(DEFAULT_TENANT).uploads.begin("exp_1")
    upload.close()
    return upload


def written(base: LanguageModel, artifacts: Artifacts, records: Records, upload: Upload) -> ExportReply:
    artifact = stored_context(base, artifacts, TuningSpec(examples=EXAMPLES))
    request = ExportRequest(
        id="exp_2",
        reply_to="channel",
        model=base.id,
        artifact=artifact,
        form="adapter",
        target=upload.address,
        context={"id": "ctx_1"},
    )
    return exported(base, artifacts, records, request)


def uploads(folder: Path) -> list[Path]:
    return sorted((folder / "artifacts" / "uploads").iterdir())


def test_export_is_there_for_the_gateway_that_waits(
    base: LanguageModel, artifacts: Watched, records: Records, upload: Upload, tmp_path: Path
) -> None:
    reply = written(base, artifacts, records, upload)
    assert reply.failure is None
    (file,) = uploads(tmp_path)
    assert file.stat().st_size == reply.size > 0
    upload.discard()
    assert uploads(tmp_path) == []


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_export_whose_gateway_gave_up_is_removed(
    base: LanguageModel, artifacts: Watched, records: Records, upload: Upload, tmp_path: Path, when: str
) -> None:
    if when == "before":
        upload.discard()
    else:
        artifacts.on_read = upload.discard
    assert written(base, artifacts, records, upload).failure is None
    assert uploads(tmp_path) == []


def test_what_a_worker_leaves_that_dies_is_found_by_the_sweep(
    client: redis.Redis, upload: Upload, tmp_path: Path
) -> None:
    impatient = Records(client, retention=Retention(unreferenced=0), artifacts_url=f"file://{tmp_path}/artifacts")
    dead = impatient.written_for("exp_2", upload.address)
    dead.__enter__()
    upload.discard()
    assert uploads(tmp_path) != [], "the worker may write yet"
    assert impatient.garbage.files() == {upload.address: True}
