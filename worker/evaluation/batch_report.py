"""What a batch reports of its labelled lines: the figures of a context's report, of what is served alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from app.contract.objects import Report, Threshold
from app.records.claims import BatchClaim
from worker.cpt.turn import Turn
from worker.evaluation.figures import confusions, per_label, score
from worker.evaluation.outcomes import Outcomes
from worker.evaluation.report import FEW, FEW_OF_LABEL, PRECISIONS, notes_on_thresholds
from worker.evaluation.verdict import supported_threshold, verdict_on


def batch_report(claim: BatchClaim, outcomes: Outcomes, turn: Turn) -> Report:
    """The report on N > 0 labelled lines; the turn is offered now and then. Whether lines abstain changes nothing."""
    labels, target = claim.labels, claim.spec.target_error
    wanted = sorted({*PRECISIONS, 1 - target})
    thresholds = [supported_threshold(outcomes.confidence, outcomes.right, one) for one in wanted]
    matrix = confusions(outcomes.predicted, outcomes.truth, len(labels))
    scores = dict(zip(labels, per_label(matrix), strict=True))
    # Chance may miss the one line of a rare label.
    unrecognised = [label for label, one in scores.items() if one.recall == 0 and one.n >= FEW_OF_LABEL]
    return Report(
        served=claim.spec.served,
        tuned=score(outcomes, len(labels), turn),
        measured_on="batch",
        notes=tuple(_notes(outcomes, claim, wanted, thresholds)),
        confusion_matrix=matrix,
        per_label=scores,
        thresholds=tuple(one for one in thresholds if one is not None),
        verdict=verdict_on(outcomes.confidence, outcomes.right, target, unrecognised),
    )


def _notes(
    outcomes: Outcomes, claim: BatchClaim, wanted: Sequence[float], thresholds: Sequence[Threshold | None]
) -> Iterator[str]:
    n = len(outcomes)
    if n < FEW:
        yield f"Only {n} lines have labels: one more or less that is right moves the accuracy by {100 / n:.0f} points."
    if n < claim.total:
        yield f"Lines that were measured: {n} of {claim.total}. Those without a label, and those that failed, were not."
    yield from notes_on_thresholds(wanted, thresholds)
