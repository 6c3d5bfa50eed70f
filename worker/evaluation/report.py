"""What a job reports of its result: quality with intervals, examples to look at again, and what decided it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final, Literal

import torch
from torch import Tensor

from app.contract.objects import (
    EpsilonUse,
    HarmfulExample,
    Report,
    Reproducibility,
    SuspectExample,
    Threshold,
)
from app.contract.tuning import TuningSpec
from app.records.store import Claim
from worker.cpt.encoding.template import TokenType
from worker.cpt.selection.influence import MOST_TRIED
from worker.cpt.selection.search import Found
from worker.cpt.turn import Turn
from worker.evaluation.figures import compare, confusion_matrix, evaluate, per_label, threshold, usual_ece
from worker.models import LanguageModel

#: Below so many measured examples the figures come with a warning in words.
_FEW: Final = 30
_FEW_OF_LABEL: Final = 5
#: From so many on the ECE of honest confidences is near 0.
_FEW_FOR_ECE: Final = 200
#: A label is doubted when held-out predictions give it less than a chance of this share of its fair one.
_DOUBT: Final = 0.5
_PRECISIONS: Final = (0.8, 0.9, 0.95)
#: A delta that uses this share of its epsilon is at the boundary.
_AT_BOUNDARY: Final = 0.999
_TYPES: Final = (TokenType.INPUT_TEMPLATE, TokenType.INPUT, TokenType.OUTPUT_TEMPLATE)
_PACKAGES: Final = ("contextune", "torch", "transformers")


@dataclass(frozen=True)
class Predictions:
    """Probabilities (N, L) of the plain and of the tuned context for examples with the labels ``truth`` (N,)."""

    of: Literal["validation_examples", "folds"]
    truth: Tensor
    icl: Tensor
    tuned: Tensor

    @property
    def tuned_is_worse(self) -> bool:
        """Whether tuning lost accuracy."""
        right = [(each.argmax(1) == self.truth).sum().item() for each in (self.tuned, self.icl)]
        return right[0] < right[1]


def report(
    base: LanguageModel,
    claim: Claim,
    found: Found,
    measured: Predictions | None,
    served: Literal["tuned", "icl"],
    losses: Sequence[float],
    turn: Turn,
) -> Report:
    """All that is known; figures only where something was ``measured``. The turn is offered now and then."""
    metrics = Report(
        served=served,
        loss_curve=tuple(losses),
        epsilon_use=_epsilon_use(found),
        reproducibility=_reproducibility(base, claim),
    )
    if measured is None:
        return metrics.model_copy(update={"notes": _notes_without_figures(claim)})
    labels = claim.spec.label_names
    chosen = measured.tuned if served == "tuned" else measured.icl
    thresholds = [threshold(chosen, measured.truth, target) for target in _PRECISIONS]
    matrix = confusion_matrix(chosen, measured.truth)
    tuned = claim.hyperparameters.method != "icl"
    return metrics.model_copy(
        update={
            "icl": evaluate(measured.icl, measured.truth, turn),
            "tuned": evaluate(measured.tuned, measured.truth, turn) if tuned else None,
            "difference": compare(measured.tuned, measured.icl, measured.truth) if tuned else None,
            "measured_on": measured.of,
            "notes": (*_notes(claim, measured, served), *_notes_on_confidence(chosen, thresholds)),
            "confusion_matrix": matrix,
            "per_label": dict(zip(labels, per_label(matrix), strict=True)),
            "suspect_examples": tuple(_suspects(claim.spec, found)),
            "harmful_examples": tuple(_harmful(claim.spec, found)),
            "thresholds": tuple(one for one in thresholds if one is not None),
        }
    )


def _notes_without_figures(claim: Claim) -> tuple[str, ...]:
    if claim.hyperparameters.cross_validation:
        return ("There are too few examples to hold any out: nothing is known of the quality of this context.",)
    return ("No examples were held out: nothing is known of the quality of this context without validation examples.",)


def _notes(claim: Claim, measured: Predictions, served: str) -> Iterator[str]:
    n, spec = len(measured.truth), claim.spec
    if n < _FEW:
        yield (
            f"Only {n} examples were measured: one more or less that is right moves the accuracy by "
            f"{100 / n:.0f} points. Take the intervals seriously, and give validation examples if you can."
        )
    seldom = sum(count < _FEW_OF_LABEL for count in measured.truth.bincount(minlength=len(spec.label_names)).tolist())
    if seldom and n >= _FEW:
        yield (
            f"Labels with fewer than {_FEW_OF_LABEL} measured examples: {seldom} of {len(spec.label_names)}. "
            "Their precision, recall and F1 say little."
        )
    if measured.of == "folds":
        yield from _notes_on_folds(claim)
    else:
        known = {example.text for example in (*spec.examples, *spec.training_examples)}
        if repeated := sum(example.text in known for example in spec.validation_examples):
            yield f"Validation examples that are learned from too: {repeated} of {n}. They flatter all figures."
    if served == "icl" and measured.tuned_is_worse:
        yield "The plain context is served: on the examples that were measured the tuned one did worse."


def _notes_on_folds(claim: Claim) -> Iterator[str]:
    yield "Each fold was predicted by a context without its examples, so the served context may do a little better."
    if claim.hyperparameters.method == "auto":
        yield "Steps and loss were chosen on the same folds, so it may also do a little worse."
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


def _alone(spec: TuningSpec) -> frozenset[str]:
    """Labels with a single example."""
    counts = Counter(example.label for example in (*spec.examples, *spec.training_examples))
    return frozenset(label for label, count in counts.items() if count == 1)


def _notes_on_confidence(chosen: Tensor, thresholds: Sequence[Threshold | None]) -> Iterator[str]:
    if len(chosen) < _FEW_FOR_ECE:
        yield (
            f"Of {len(chosen)} examples an ECE of about {usual_ece(chosen):.2f} is to be expected even if confidences "
            "mean exactly what they say."
        )
    if missing := [str(wanted) for wanted, one in zip(_PRECISIONS, thresholds, strict=True) if one is None]:
        yield (
            f"No min_confidence is suggested for a precision of {' or '.join(missing)}: too few examples were "
            "measured, or too few of the surest answers were right."
        )


def _suspects(spec: TuningSpec, found: Found) -> Iterator[SuspectExample]:
    """Examples whose label held-out predictions contradict, the least likely first."""
    if found.held_out is None:
        return
    names, pointed = spec.label_names, list(spec.pointed())
    numbers = [number for fold in found.held_out.folds for number in fold]
    truth = torch.tensor([names.index(pointed[number][1].label) for number in numbers])
    likely, predicted = found.held_out.tuned.max(1)
    own = found.held_out.tuned.gather(1, truth[:, None]).flatten()
    alone = _alone(spec)  # which held-out predictions know nothing of
    for place in own.argsort(stable=True).tolist():
        if own[place] >= _DOUBT / len(names):
            return
        if predicted[place] != truth[place] and names[int(truth[place])] not in alone:
            yield SuspectExample(
                param=pointed[numbers[place]][0],
                probability=own[place].item(),
                prediction=names[int(predicted[place])],
                prediction_probability=likely[place].item(),
            )


def _harmful(spec: TuningSpec, found: Found) -> Iterator[HarmfulExample]:
    """Examples without which the head predicts the others better, the worst first."""
    pointed = list(spec.pointed())
    for number, gain in found.harmful:
        yield HarmfulExample(param=pointed[number][0], gain=gain)


def _epsilon_use(found: Found) -> dict[str, EpsilonUse]:
    """By token type, for the types whose deltas are learned."""
    use = found.delta.norm(dim=1) / found.epsilon
    kinds = torch.tensor([int(kind) for kind in found.tokens.types])
    uses = {kind.name.lower(): use[kinds == kind].double() for kind in _TYPES if (kinds == kind).any()}
    return {
        name: EpsilonUse(
            mean=values.mean().item(),
            max=values.max().item(),
            at_boundary=(values >= _AT_BOUNDARY).double().mean().item(),
            tokens=len(values),
        )
        for name, values in uses.items()
    }


def _reproducibility(base: LanguageModel, claim: Claim) -> Reproducibility:
    spec = claim.spec
    decisive = spec.model_dump(mode="json", include={"examples", "training_examples", "validation_examples", "labels"})
    return Reproducibility(
        seed=claim.hyperparameters.seed,
        hyperparameters=spec.hyperparameters,
        examples_sha256=hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest(),
        template=spec.template,
        model=claim.model,
        model_revision=base.revision or base.fingerprint,
        versions={package: version(package) for package in _PACKAGES},
        device=base.device,
        dtype=str(base.model.dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
    )
