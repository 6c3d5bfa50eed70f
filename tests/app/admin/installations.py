"""What a backup is made of: a store and a folder of artifacts."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from app.admin.backup import Tell, read_backup, write_backup
from app.contract.batches import BatchOptions, BatchSpec
from app.contract.names import artifact_url
from app.records.backups import Backups
from app.records.batches import BatchSubmission
from app.records.chunks import Chunk, Done
from app.records.claims import BatchClaim
from app.records.connection import Store, connect, new_id
from app.records.files import write_file
from app.records.requirements import take_up
from app.records.store import Records
from tests.app.records.steps import REPORT, claim, submit
from tests.submissions import MODEL

CONTENT = b"what was tuned"
ADDRESS = hashlib.sha256(CONTENT).hexdigest()


def quietly(_: str) -> None:
    """Nobody is told."""


class Installation:
    """A store and a folder of artifacts."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.root = f"file://{folder}"
        self.folder = folder
        self.client = connect(url)
        self.records = Records(self.client, artifacts_url=self.root)

    def back_up(self, file: Path, meanwhile: Callable[[], object] | None = None) -> None:
        """Make a backup; ``meanwhile`` happens as `Disturbed` says."""
        backups = Disturbed(Store(connect(self.url), take_up))
        backups.meanwhile = meanwhile
        write_backup(backups, self.root, file, quietly)

    def restore(self, file: Path, tell: Tell = quietly) -> None:
        read_backup(Backups.at(self.url, to_restore=True), self.root, file, tell)

    def files(self) -> dict[str, bytes]:
        return {one.name: one.read_bytes() for one in self.folder.rglob("*") if one.is_file()}

    def tuned(self, name: str | None = None) -> str:
        context_id, _ = submit(self.records, name)
        claimed = claim(self.records)
        assert self.records.begin_write(claimed, ADDRESS) == "go"
        write_file(artifact_url(self.root, ADDRESS), CONTENT)
        assert self.records.finish_succeeded(claimed, ADDRESS, REPORT, {}) == "succeeded"
        return context_id

    def batch(self) -> BatchClaim:
        """A batch of a context, which a worker has begun."""
        context_id, job_id = self.tuned(), new_id("job")
        batches = self.records.of("default").batches
        lines = batches.upload(job_id)
        lines.write(b'{"text": "great film"}\n')
        spec = BatchSpec(artifact=ADDRESS, served="tuned", target_error=0.05, options=BatchOptions())
        batches.submit(job_id, BatchSubmission(context_id, MODEL, spec, 10), lines, None)
        claimed = self.records.claim([MODEL], "worker")
        assert isinstance(claimed, BatchClaim)
        return claimed

    def add_chunk(self, claimed: BatchClaim, number: int) -> None:
        """Do the next line of a batch."""
        content = f"result {number}".encode()
        address = f"{hashlib.sha256(content).hexdigest()}.jsonl"
        assert self.records.begin_write(claimed, address) == "go"
        write_file(artifact_url(self.root, address), content)
        chunk = Chunk(number, number + 1, number, results=address)
        assert self.records.batch_work.add(claimed, number, chunk, Done(1, 0, len(content), 1, 1)) == "held"


class Disturbed(Backups):
    """Rows of which others change once those of the tenant ``default``, which is the last, are read."""

    meanwhile: Callable[[], object] | None = None

    def rows(self) -> Iterator[str]:
        for line in super().rows():
            change = self.meanwhile
            if change and line.startswith('["t:default:'):
                self.meanwhile = None
                change()
            yield line
