"""What a job reports of its result: quality with intervals, examples to look at again, and what decided it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Final, Literal

import torch
from torch import Tensor

from app.contract.objects import (
    Difference,
    EpsilonUse,
    HarmfulExample,
    LabelScore,
    Report,
    Reproducibility,
    Score,
    Served,
    SuspectExample,
    Threshold,
    TrialReport,
)
from app.contract.tuning import TrialSettings, TuningSpec
from app.records.claims import TuningClaim
from worker.cpt.encoding.template import TokenType
from worker.cpt.selection.influence import MOST_TRIED
from worker.cpt.selection.result import SearchResult
from worker.cpt.selection.trials import MOST_READ
from worker.cpt.tuning.projection import AT_BOUNDARY
from worker.cpt.turn import Turn
from worker.evaluation.figures import compare, confusion_matrix, evaluate, held_out_interval, per_label
from worker.evaluation.verdict import listed, threshold, verdict
from worker.models import LanguageModel

#: Below so many measured examples the figures come with a warning in words.
FEW: Final = 30
#: Of fewer examples of a label its own figures say little.
FEW_OF_LABEL: Final = 5
#: Precisions for which a threshold is looked for, besides the one that is asked for.
PRECISIONS: Final = (0.8, 0.9)
_TYPES: Final = (TokenType.INPUT_TEMPLATE, TokenType.INPUT, TokenType.OUTPUT_TEMPLATE)
#: What is given for a job, besides hyperparameters and template, that decides its result.
_DECISIVE: Final = {"examples", "training_examples", "validation_examples", "calibration_texts", "labels"}
_PACKAGES: Final = ("contextune", "torch", "transformers")


@dataclass(frozen=True)
class Predictions:
    """Probabilities (N, L) for examples with the labels ``truth``, of the plain label scores and of what is served.

    ``icl`` is None where no prompt that is not tuned was measured.
    """

    of: Literal["validation_examples", "folds"]
    truth: Tensor
    icl: Tensor | None
    served: Tensor


def report(
    base: LanguageModel,
    claim: TuningClaim,
    found: SearchResult,
    measured: Predictions | None,
    served: Served,
    turn: Turn,
) -> Report:
    """All that is known; figures only where something was ``measured``. The turn is offered now and then."""
    target = claim.hyperparameters.target_error
    known = Report(
        served=served,
        loss_curve=found.losses,
        epsilon_use=_epsilon_use(found),
        trials=_trials(found),
        weights=() if found.classifier is None else tuple(found.classifier.mixture.weights.tolist()),
        shortlist=None if found.classifier is None else found.classifier.shortlist,
        encoder=None if found.encoder is None else found.encoder.name,
        encoder_steps=None if found.encoder is None else found.encoder_steps,
        reproducibility=_reproducibility(base, claim, found),
    )
    if measured is None:
        notes = (*_notes_without_figures(claim), *_notes_on_scores(claim, found, None))
        update = {"notes": notes, "verdict": verdict(None, None, target)}
        return known.model_copy(update=update)
    labels, tuned = claim.spec.label_names, claim.hyperparameters.method != "icl"
    wanted = sorted({*PRECISIONS, 1 - target})
    thresholds = [threshold(measured.served, measured.truth, one) for one in wanted]
    matrix = confusion_matrix(measured.served, measured.truth)
    scores = dict(zip(labels, per_label(matrix), strict=True))
    unrecognised = [label for label, one in scores.items() if not one.recall]  # or not measured: nothing shows it
    return known.model_copy(
        update={
            "icl": None if measured.icl is None else evaluate(measured.icl, measured.truth, turn),
            "tuned": _score_of_served(claim, measured, turn) if tuned else None,
            "difference": _difference(measured) if tuned else None,
            "measured_on": measured.of,
            "notes": (
                *_notes(claim, found, measured),
                *_notes_on_labels(scores),
                *_notes_on_scores(claim, found, measured),
                *notes_on_thresholds(wanted, thresholds),
            ),
            "confusion_matrix": matrix,
            "per_label": scores,
            "suspect_examples": tuple(_suspects(claim.spec, found)),
            "harmful_examples": tuple(_harmful(claim.spec, found)),
            "thresholds": tuple(one for one in thresholds if one is not None),
            "verdict": verdict(measured.served, measured.truth, target, unrecognised),
        }
    )


def _score_of_served(claim: TuningClaim, measured: Predictions, turn: Turn) -> Score:
    """The figures of the held-out predictions; their interval is for what serves, which may do better."""
    score = evaluate(measured.served, measured.truth, turn)
    if measured.of != "folds" or claim.hyperparameters.method != "auto":
        return score
    return score.model_copy(update={"accuracy_ci95": held_out_interval(score.accuracy, score.n)})


def _difference(measured: Predictions) -> Difference | None:
    return None if measured.icl is None else compare(measured.served, measured.icl, measured.truth)


def _trials(found: SearchResult) -> tuple[TrialReport, ...]:
    return tuple(
        TrialReport(
            settings=TrialSettings(**asdict(one.trial)),
            status=one.status,
            nll=one.nll,
            accuracy=one.accuracy,
        )
        for one in found.outcomes
    )


def _notes_without_figures(claim: TuningClaim) -> tuple[str, ...]:
    if claim.hyperparameters.cross_validation:
        return ("There are too few examples to hold any out: nothing is known of the quality of this context.",)
    return ("No examples were held out: nothing is known of the quality of this context without validation examples.",)


def _notes(claim: TuningClaim, found: SearchResult, measured: Predictions) -> Iterator[str]:
    n, spec = len(measured.truth), claim.spec
    if n < FEW:
        yield (
            f"Only {n} examples were measured: one more or less that is right moves the accuracy by "
            f"{100 / n:.0f} points. Take the intervals seriously, and give validation examples if you can."
        )
    if measured.of == "folds":
        yield from _notes_on_time(claim, found, n)
        yield from _notes_on_folds(claim)
    else:
        known = {example.text for example in (*spec.examples, *spec.training_examples)}
        if repeated := sum(example.text in known for example in spec.validation_examples):
            yield f"Validation examples that are learned from too: {repeated} of {n}. They flatter all figures."


def _notes_on_labels(scores: Mapping[str, LabelScore]) -> Iterator[str]:
    if unmeasured := [label for label, one in scores.items() if not one.n]:
        yield f"Labels of which no example was measured: {len(unmeasured)} of {len(scores)} ({listed(unmeasured)})."
    if missed := [label for label, one in scores.items() if one.recall == 0]:
        yield f"Labels of which no measured example was recognised: {len(missed)} of {len(scores)} ({listed(missed)})."
    seldom = sum(0 < one.n < FEW_OF_LABEL for one in scores.values())
    if seldom and sum(one.n for one in scores.values()) >= FEW:
        yield (
            f"Labels with 1 to {FEW_OF_LABEL - 1} measured examples: {seldom} of {len(scores)}. "
            "Their precision, recall and F1 say little."
        )


def _notes_on_time(claim: TuningClaim, found: SearchResult, measured: int) -> Iterator[str]:
    """Where the search read fewer examples than it would have with more time."""
    given = len(claim.spec.examples) + len(claim.spec.training_examples)
    read = max((one.examples for one in found.outcomes), default=0)
    # Without both, what is held out is all that is read.
    everything = claim.hyperparameters.calibration or claim.hyperparameters.head
    if claim.hyperparameters.max_seconds is not None and everything and read < min(given, MOST_READ):
        yield (
            f"There was no time to read more than {read} of {given} examples under a prompt, and {measured} were "
            "measured. A larger max_seconds reads and measures more."
        )


def _notes_on_folds(claim: TuningClaim) -> Iterator[str]:
    if claim.hyperparameters.method == "auto":
        yield "Each example was predicted by what has not learned it; what serves may do a little better."
    else:
        yield "Each fold was predicted by a context without its examples, so the served context may do a little better."
    texts = [example.text for example in (*claim.spec.examples, *claim.spec.training_examples)]
    if len(texts) > MOST_TRIED:
        yield f"Harmful examples were not looked for among {len(texts)}: up to {MOST_TRIED} are tried one by one."
    if repeated := len(texts) - len(set(texts)):
        yield f"Repeated texts: {repeated} of {len(texts)} examples. A copy in another fold flatters all figures."
    if alone := len(_alone(claim.spec)):
        yield (
            f"The only example of a label: {alone} of {len(texts)} examples. While such a one is held out nothing "
            "shows what its label means, so the served context may do much better. Two or more of each label tell more."
        )


def _notes_on_scores(claim: TuningClaim, found: SearchResult, measured: Predictions | None) -> Iterator[str]:
    if found.trial.scored_examples != 0 or not claim.hyperparameters.head:
        return
    compared = "" if measured is None or measured.icl is not None else " Nothing compares with plain label scores."
    if claim.hyperparameters.max_seconds is None:
        yield f"No labels were scored, as the trials say: the regressions predict without label scores.{compared}"
    else:
        yield (
            "There was no time for the scores of so many labels: the regressions predict without label scores. "
            f"A larger max_seconds buys the scores.{compared}"
        )


def _alone(spec: TuningSpec) -> frozenset[str]:
    """Labels with a single example."""
    counts = Counter(example.label for example in (*spec.examples, *spec.training_examples))
    return frozenset(label for label, count in counts.items() if count == 1)


def notes_on_thresholds(wanted: Sequence[float], found: Sequence[Threshold | None]) -> Iterator[str]:
    """What is said of precisions for which there is no threshold."""
    if missing := [f"{one:g}" for one, threshold in zip(wanted, found, strict=True) if threshold is None]:
        yield (
            f"No min_confidence is suggested for a precision of {' or '.join(missing)}: too few examples were "
            "measured, or too few of the surest answers were right."
        )


def _suspects(spec: TuningSpec, found: SearchResult) -> Iterator[SuspectExample]:
    """Examples whose label is likely wrong, the likeliest first."""
    names, pointed = spec.label_names, list(spec.pointed())
    for one in found.suspect:
        param, example = pointed[one.number]
        yield SuspectExample(
            param=param,
            probability=one.predicted[names.index(example.label)].item(),
            wrong=one.wrong,
            prediction=names[int(one.predicted.argmax())],
            prediction_probability=one.predicted.max().item(),
        )


def _harmful(spec: TuningSpec, found: SearchResult) -> Iterator[HarmfulExample]:
    """Examples without which the head predicts the others better, the worst first."""
    pointed = list(spec.pointed())
    for number, gain in found.harmful:
        yield HarmfulExample(param=pointed[number][0], gain=gain)


def _epsilon_use(found: SearchResult) -> dict[str, EpsilonUse]:
    """By token type, for the types whose deltas are learned, in all prompts."""
    use = torch.cat([prompt.delta.norm(dim=1) / prompt.epsilon for prompt in found.prompts])
    kinds = torch.tensor([int(kind) for prompt in found.prompts for kind in prompt.tokens.types])
    uses = {kind.name.lower(): use[kinds == kind].double() for kind in _TYPES if (kinds == kind).any()}
    return {
        name: EpsilonUse(
            mean=values.mean().item(),
            max=values.max().item(),
            at_boundary=(values >= AT_BOUNDARY).double().mean().item(),
            tokens=len(values),
        )
        for name, values in uses.items()
    }


def _reproducibility(base: LanguageModel, claim: TuningClaim, found: SearchResult) -> Reproducibility:
    spec = claim.spec
    decisive = spec.model_dump(mode="json", include=_DECISIVE)
    return Reproducibility(
        seed=claim.hyperparameters.seed,
        hyperparameters=spec.hyperparameters,
        examples_sha256=hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest(),
        template=spec.template,
        model=claim.model,
        model_revision=base.revision or base.fingerprint,
        encoder=None if found.encoder is None else found.encoder.fingerprint,
        versions={package: version(package) for package in _PACKAGES},
        device=base.device,
        dtype=str(base.model.dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
    )
