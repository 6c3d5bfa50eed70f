"""Claims: jobs that a worker may run while it keeps beating."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pydantic import TypeAdapter

from app.contract.batches import BatchSpec
from app.contract.names import JobKind
from app.contract.tuning import ResolvedHyperparameters, TuningSpec
from app.records.bodies import Bodies
from app.records.rows import Row, tolerant

_LABELS: Final[TypeAdapter[tuple[str, ...]]] = TypeAdapter(tuple[str, ...])


@dataclass(frozen=True)
class Claim:
    """A job that this worker may run while it keeps beating; ``fence`` proves it.

    ``parked``: it had been set aside for a shorter one.
    """

    tenant: str
    job_id: str
    context_id: str
    model: str
    fence: int
    attempt: int
    parked: bool
    #: Of the HTTP request that created the job, for the log; '' where there was none.
    request_id: str


@dataclass(frozen=True)
class TuningClaim(Claim):
    """A claimed tuning run."""

    hyperparameters: ResolvedHyperparameters
    spec: TuningSpec


@dataclass(frozen=True)
class BatchClaim(Claim):
    """A claimed batch: the address of its lines, how many there are, and the labels of its context in their order."""

    spec: BatchSpec
    input: str
    total: int
    labels: tuple[str, ...]


def claim_of(tenant: str, job_id: str, row: Row, needed: str | None, bodies: Bodies) -> Claim:
    """The claim of a row. ``needed`` is the address of a tuning run's spec, or the labels of a batch's context.

    Raises ValidationError, KeyError, `BodyCorrupt` and `ArtifactsUnavailable`.
    """
    parked = row.get("was_parked") == "1"
    common = (
        tenant,
        job_id,
        row["context_id"],
        row["model"],
        int(row["fence"]),
        int(row["attempt"]),
        parked,
        row.get("request_id", ""),
    )
    if row.get("kind") == JobKind.BATCH:
        spec, labels = tolerant(BatchSpec, row["batch"]), _LABELS.validate_json(needed or "")
        return BatchClaim(*common, spec, row["input"], int(row["total"]), labels)
    hyperparameters = tolerant(ResolvedHyperparameters, row["hyperparameters"])
    return TuningClaim(*common, hyperparameters, tolerant(TuningSpec, bodies.get(needed or "")))
