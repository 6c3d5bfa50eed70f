"""What the tests of the records do again and again."""

import hashlib
from collections.abc import Callable
from typing import Any, cast

import redis

from app.contract.batches import BatchOptions, BatchSpec
from app.contract.names import ErrorCode, artifact_url
from app.contract.objects import Job, JobError, Report
from app.records.batches import BatchSubmission
from app.records.chunks import Chunk, Done
from app.records.claims import BatchClaim, TuningClaim
from app.records.connection import new_id
from app.records.contexts import Deletion
from app.records.files import write_file
from app.records.rows import StoredContext
from app.records.store import Records
from tests.submissions import MODEL, submission

REPORT = Report(served="tuned", loss_curve=(1.0, 0.5))
FAILURE = JobError(code=ErrorCode.INTERNAL, message="it broke")


def submit(records: Records, name: str | None = None, tenant: str = "default", **changes: Any) -> tuple[str, str]:
    """Ids of a new context and of its job."""
    stored, job = records.of(tenant).contexts.submit(submission(name, **changes))
    return stored.context.id, job.id


def claim(records: Records, worker: str | None = None) -> TuningClaim:
    """Claim a job, for a worker of its own if none is named."""
    claimed = records.claim([MODEL], worker or new_id("worker"))
    assert isinstance(claimed, TuningClaim)
    return claimed


def succeed(records: Records, name: str | None = None, tenant: str = "default", **changes: Any) -> str:
    """Id of a context whose job has succeeded; nothing else may be queued."""
    context_id, _ = submit(records, name, tenant, **changes)
    assert records.finish_succeeded(claim(records), "address", REPORT, {}) == "succeeded"
    return context_id


def batch(records: Records, root: str, files: int, tenant: str = "default") -> str:
    """Id of a batch that has succeeded, with so many files beside its input; nothing else may be queued."""
    claimed = begun_batch(records, files, tenant)
    for number in range(files):
        keep_chunk(records, claimed, number, write_results(records, root, claimed, number))
    assert records.batch_work.finish(claimed, None, None) == "succeeded"
    return claimed.job_id


def begun_batch(records: Records, lines: int, tenant: str = "default") -> BatchClaim:
    """A batch of so many lines that a worker has begun; nothing else may be queued."""
    context_id, job_id, owned = succeed(records, tenant=tenant), new_id("job"), records.of(tenant)
    upload = owned.batches.upload(job_id)
    upload.write(b'{"text": "a"}\n')
    spec = BatchSpec(artifact="address", served="tuned", target_error=0.05, options=BatchOptions())
    owned.batches.submit(job_id, BatchSubmission(context_id, MODEL, spec, lines), upload, None)
    return claim_batch(records)


def claim_batch(records: Records) -> BatchClaim:
    claimed = records.claim([MODEL], new_id("worker"))
    assert isinstance(claimed, BatchClaim)
    return claimed


def write_results(records: Records, root: str, claimed: BatchClaim, number: int) -> str:
    """The address of a file of results."""
    address = hashlib.sha256(f"{claimed.job_id}:{number}".encode()).hexdigest() + ".jsonl"
    assert records.begin_write(claimed, address) == "go"
    write_file(artifact_url(root, address), b"a text")
    return address


def keep_chunk(records: Records, claimed: BatchClaim, number: int, address: str) -> None:
    """Do a line of a batch, whose results were written."""
    chunk, done = Chunk(number, number + 1, number, results=address), Done(1, 0, 1, 1, 1)
    assert records.batch_work.add(claimed, number, chunk, done) == "held"


def expire_removals(client: redis.Redis) -> None:
    """As if whoever removes files had died a minute ago."""
    for address in cast("list[str]", client.zrange("{ct}:collecting", 0, -1)):
        client.zadd("{ct}:collecting", {address: 1})


def job_of(records: Records, job_id: str, tenant: str = "default") -> Job:
    job = records.of(tenant).jobs.get(job_id)
    assert job
    return job


def context_of(records: Records, context_id: str, tenant: str = "default") -> StoredContext:
    stored = records.of(tenant).contexts.get(context_id)
    assert stored
    return stored


def job_id_of(records: Records, context_id: str) -> str:
    """Id of the job that tunes a context."""
    job_id = context_of(records, context_id).context.job_id
    assert job_id
    return job_id


def resolved_id(records: Records, ref: str) -> str | None:
    stored = records.of("default").contexts.resolve(ref)
    return stored.context.id if stored else None


def delete(records: Records, context_id: str, tenant: str = "default") -> Deletion | None:
    """Delete a context as if its files had been removed at once; what was to be removed."""
    contexts = records.of(tenant).contexts
    deletion = contexts.delete(context_id)
    if deletion is not None:
        contexts.deleted(context_id, deletion.files, deletion.files.addresses)
    return deletion


def content(client: redis.Redis) -> dict[str, Any]:
    """Every key of the store and what it holds, but for its format."""
    read: dict[Any, Callable[[str], Any]] = {
        "hash": client.hgetall,
        "string": client.get,
        "list": lambda key: client.lrange(key, 0, -1),
        "set": client.smembers,
        "stream": lambda key: client.xrange(key, "-", "+"),
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
    }
    return {key: read[client.type(key)](key) for key in cast("list[str]", client.keys("*")) if key != "{ct}:format"}
