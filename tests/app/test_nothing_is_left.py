"""What is created and deleted leaves store and disk where they were, but for what retention keeps."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import redis

from app.contexts.deletion import collect, delete
from app.contract.names import artifact_url, checkpoint_url
from app.jobs.ending import retire
from app.records.connection import new_id
from app.records.limits import Retention
from app.records.store import Records
from tests.app.artifact_files import partly_written, written
from tests.app.records.steps import REPORT, claim, content, submit
from tests.waiting import eventually

COUNT = 1_000
#: A few numbers that the store keeps for good, whatever it holds.
CONSTANT = {
    *("{ct}:backlog", "{ct}:queued", "{ct}:swept", "{ct}:totals", "{ct}:turn"),
    *(f"{{ct}}:t:{tenant}:sequence" for tenant in ("default", "other")),
}


def test_contexts_that_were_deleted_leave_nothing(client: redis.Redis, tmp_path: Path) -> None:
    root = f"file://{tmp_path}/artifacts"
    records = Records(client, retention=Retention(jobs=-1, names=0.001, unreferenced=-1), artifacts_url=root)

    def create(number: int) -> tuple[str, str]:
        tenant = ("default", "other")[number % 2]
        context_id, _ = submit(records, f"name-{number // 10}", tenant, metadata={"number": str(number)})
        claimed, address = claim(records), new_id("")[1:].ljust(64, "0")
        assert records.begin_write(claimed, address) == "go"
        written(artifact_url(root, address))
        partly_written(checkpoint_url(root, claimed.job_id))
        assert records.finish_succeeded(claimed, address, REPORT, {}) == "succeeded"
        return tenant, context_id

    with ThreadPoolExecutor(8) as threads:
        created = list(threads.map(create, range(COUNT)))
        assert len(list((tmp_path / "artifacts").rglob("*.safetensors"))) == COUNT
        list(threads.map(lambda one: delete(records.of(one[0]), root, one[1]), created))
    collect(records, root)
    retire(records)
    eventually(lambda: set(content(client)) <= CONSTANT)  # the counters of the names are kept for a millisecond
    assert list((tmp_path / "artifacts").iterdir()) == []
