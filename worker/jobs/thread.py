"""The thread that claims jobs, tuning runs and batches, from the store and runs them, one at a time.

The record in the store decides: a job runs while its lease is held, ends when it is lost, and goes on from its last
checkpoint wherever it is claimed next, with the result of an unbroken run.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from threading import Event, Thread
from typing import Final

import structlog
from structlog.contextvars import bound_contextvars

from app.contract.names import ErrorCode
from app.contract.objects import JobError
from app.contract.traces import span
from app.records.claims import BatchClaim, Claim, TuningClaim
from app.records.connection import StoreUnavailable
from app.records.files import ArtifactsUnavailable
from app.records.store import Records
from worker.artifacts import Artifacts
from worker.classification.resident import ResidentContexts
from worker.cpt.model.sizes import Sizes
from worker.device import Device, DeviceStopped, caused_by_work, out_of_memory
from worker.jobs.batch_run import BatchRun, Unservable
from worker.jobs.encoding import Unplannable
from worker.jobs.faults import lacks_room, waits
from worker.jobs.lease import Cancelled, Lease, LeaseLost, Parked, Stopping
from worker.jobs.result_files import POLL_SECONDS, ResultFiles
from worker.jobs.run import JobRun, Result
from worker.models import LanguageModel

#: Chunks are not halved below this: a single example may be longer.
_FEWEST_CHUNK_TOKENS: Final = 32


class TuningThread:
    """Runs the jobs of ``bases`` until `stop`."""

    def __init__(
        self,
        records: Records,
        artifacts: Artifacts,
        device: Device,
        bases: dict[str, LanguageModel],
        worker_id: str,
        checkpoint_seconds: float,
        residents: Mapping[str, ResidentContexts],
    ) -> None:
        self._records = records
        self._artifacts = artifacts
        self._device = device
        self._bases = bases
        self._worker_id = worker_id
        self._checkpoint_seconds = checkpoint_seconds
        self._residents = residents
        self._stopping = Event()
        self._wake = Event()
        self._waits = waits()
        self._files = ResultFiles(records, artifacts, self._stopping)
        self._thread = Thread(target=self._run_until_stopped, name="tuning", daemon=True)

    def start(self) -> None:
        """Begin to look for jobs."""
        self._thread.start()

    def wake(self) -> None:
        """Look for a job now."""
        self._wake.set()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Ask for the end: a running job is checkpointed and given back."""
        self._stopping.set()
        self._wake.set()

    def join(self, seconds: float) -> None:
        """Wait for the end, for so long at most."""
        self._thread.join(seconds)

    def _run_until_stopped(self) -> None:
        while not self._stopping.is_set() and self._device.unusable is None:
            self._wake.clear()
            if not self._run_next():
                self._wake.wait(POLL_SECONDS)

    def _run_next(self) -> bool:
        """Run the next queued job; False if there is none. A job that this worker must abandon is swept up."""
        try:
            claim = self._records.claim(list(self._bases), self._worker_id)
            if claim is not None:
                self._run(claim)
            return claim is not None
        except StoreUnavailable as error:
            structlog.get_logger().warning("store_unavailable", reason=str(error))
        except ArtifactsUnavailable as error:
            structlog.get_logger().warning("artifacts_unavailable", reason=str(error))
        except Exception as error:  # noqa: BLE001 - the thread must go on: there are other jobs
            structlog.get_logger().error("tuning_failed", exc_info=error)
        return False

    def _run(self, claim: Claim) -> None:
        """Run a claimed job to its end, whatever that is."""
        ids = {"job_id": claim.job_id, "tenant": claim.tenant, "context_id": claim.context_id}
        request = {"request_id": claim.request_id} if claim.request_id else {}
        with bound_contextvars(**ids, **request, attempt=claim.attempt), span("job", **ids, model=claim.model):
            self._run_named(claim)

    def _run_named(self, claim: Claim) -> None:
        log = structlog.get_logger()
        log.info("job_started", model=claim.model)
        try:
            ended = self._run_under_lease(claim)
            if ended == "lost":
                raise LeaseLost
            log.info("job_ended", status=ended)
        except LeaseLost:
            log.warning("lease_lost")
            self._let_go(claim)
        except StoreUnavailable as error:
            log.error("job_abandoned", reason=str(error))

    def _run_under_lease(self, claim: Claim) -> str:
        with Lease(self._records, claim, self._stopping) as lease:
            try:
                return (
                    self._run_batch(claim, lease) if isinstance(claim, BatchClaim) else self._run_tuning(claim, lease)
                )
            except (Unservable, Unplannable) as error:
                self._forget_checkpoint(claim)
                reason = JobError(code=error.failure.code, message=error.failure.message)
                return self._files.insist(lambda: self._records.finish_failed(claim, reason))
            except Cancelled:
                self._forget_checkpoint(claim)
                return self._files.insist(lambda: self._records.finish_cancelled(claim))
            except (Stopping, DeviceStopped):
                return self._files.insist(lambda: self._records.release(claim))
            except Parked:
                return "parked"
            except (LeaseLost, StoreUnavailable):
                raise
            except Exception as error:  # noqa: BLE001 - the thread must go on, and the job's user learns of it
                return self._fail(claim, error)

    def _run_batch(self, claim: BatchClaim, lease: Lease) -> str:
        """Classify the lines of a batch that are left, and end it with what is known of those with labels."""
        base, residents = self._bases[claim.model], self._residents[claim.model]
        run = BatchRun(claim, base, residents, self._artifacts, self._device, lease, self._records, self._files)
        ending = run.to_end(self._checkpoint_seconds)
        finish = partial(self._records.batch_work.finish, claim, ending.report, ending.line_seconds)
        return self._files.when_there_is_room(claim, lease, partial(self._files.insist, finish))

    def _run_tuning(self, claim: Claim, lease: Lease) -> str:
        """Tune a context and store it."""
        assert isinstance(claim, TuningClaim)  # noqa: S101 - there are no other jobs
        result = self._tune(claim, lease)
        address = self._files.write(claim, lease, result.content)
        return self._finish(claim, lease, result, address)

    def _tune(self, claim: TuningClaim, lease: Lease) -> Result:
        """Run a job; where memory does not suffice, go on from its checkpoint in chunks of half the size."""
        chunk_tokens = Sizes.of(self._bases[claim.model].model).chunk_tokens
        while True:
            try:
                run = JobRun(claim, self._bases[claim.model], self._artifacts, self._device, lease, chunk_tokens)
                return run.to_end(self._checkpoint_seconds)
            except Exception as error:
                if not out_of_memory(error) or chunk_tokens <= _FEWEST_CHUNK_TOKENS:
                    raise
            chunk_tokens //= 2
            self._files.say(claim, f"memory ran out: going on in chunks of {chunk_tokens} tokens")

    def _finish(self, claim: TuningClaim, lease: Lease, result: Result, address: str) -> str:
        def finish() -> str:
            ending = address, result.report, result.fields, len(result.content), result.encoder
            return self._files.insist(lambda: self._records.finish_succeeded(claim, *ending))

        ended = "lost"
        try:
            ended = self._files.when_there_is_room(claim, lease, finish)
        finally:
            if ended != "succeeded":
                self._files.remove_unwanted(claim, address)
        if ended != "lost":
            self._forget_checkpoint(claim)
            self._waits = waits()
        return ended

    def _let_go(self, claim: Claim) -> None:
        """Leave a lost job to the worker that has it now, or nothing of it if it has ended meanwhile."""
        if self._records.let_go(claim):
            self._forget_checkpoint(claim)

    def _fail(self, claim: Claim, error: Exception) -> str:
        """Try again, elsewhere perhaps, after whatever was not expected; fail when the attempts are used up."""
        structlog.get_logger().error("attempt_failed", job_id=claim.job_id, attempt=claim.attempt, exc_info=error)
        if lacks_room(error):
            self._files.say(claim, f"the worker lacks room ({error}): trying again until it has some")
            self._stopping.wait(next(self._waits))
            return self._files.insist(lambda: self._records.release(claim))
        if self._device.unusable is not None and not caused_by_work(error):
            self._files.say(claim, "the device failed: going on in a fresh process")
            return self._files.insist(lambda: self._records.release(claim))
        if out_of_memory(error):
            reason = JobError(code=ErrorCode.OUT_OF_MEMORY, message="the worker has not enough memory for this job")
        else:
            reason = JobError(code=ErrorCode.INTERNAL, message="an unexpected error in the worker")
        self._stopping.wait(POLL_SECONDS)  # a worker that fails at once must not run through the whole queue
        ended = self._files.insist(lambda: self._records.retry(claim, reason))
        if ended in ("failed", "cancelled"):
            self._forget_checkpoint(claim)
        return ended

    def _forget_checkpoint(self, claim: Claim) -> None:
        try:
            self._artifacts.remove_checkpoint(claim.job_id)
        except Exception as error:  # noqa: BLE001 - any file system, any reason: the job's end must not depend on it
            structlog.get_logger().warning("checkpoint_not_removed", job_id=claim.job_id, reason=str(error))
