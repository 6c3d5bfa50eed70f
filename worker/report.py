"""What a job reports of its result: quality with intervals, examples to look at again, and what decided it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final, Literal

import torch
from torch import Tensor

from app.contract.objects import (
    EpsilonUse,
    HarmfulExample,
    Metrics,
    Reproducibility,
    SuspectExample,
)
from app.contract.tuning import TuningSpec
from app.records.store import Claim
from worker.cpt.search import Found
from worker.cpt.template import TokenType
from worker.metrics import compare, confusion_matrix, evaluate, per_label, threshold
from worker.models import BaseModel

#: Below so many measured examples the figures come with a warning in words.
_FEW: Final = 30
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
    base: BaseModel,
    claim: Claim,
    found: Found,
    measured: Predictions | None,
    served: Literal["tuned", "icl"],
    losses: Sequence[float],
) -> Metrics:
    """All that is known; figures only where something was ``measured``."""
    metrics = Metrics(
        served=served,
        loss_curve=tuple(losses),
        epsilon_use=_epsilon_use(found),
        reproducibility=_reproducibility(base, claim),
    )
    if measured is None:
        return metrics.model_copy(update={"notes": _notes_without_figures(claim)})
    labels = claim.spec.label_names
    chosen = measured.tuned if served == "tuned" else measured.icl
    matrix = confusion_matrix(chosen, measured.truth)
    tuned = claim.hyperparameters.method != "icl"
    return metrics.model_copy(
        update={
            "icl": evaluate(measured.icl, measured.truth),
            "tuned": evaluate(measured.tuned, measured.truth) if tuned else None,
            "difference": compare(measured.tuned, measured.icl, measured.truth) if tuned else None,
            "measured_on": measured.of,
            "notes": tuple(_notes(claim, measured, served)),
            "confusion_matrix": matrix,
            "per_label": dict(zip(labels, per_label(matrix), strict=True)),
            "suspect_examples": tuple(_suspects(claim.spec, found)),
            "harmful_examples": tuple(_harmful(claim.spec, found)),
            "thresholds": tuple(
                one for target in _PRECISIONS if (one := threshold(chosen, measured.truth, target)) is not None
            ),
        }
    )


def _notes_without_figures(claim: Claim) -> tuple[str, ...]:
    if not claim.hyperparameters.cross_validation:
        return ()
    return ("There are too few examples to hold any out: nothing is known of the quality of this context.",)


def _notes(claim: Claim, measured: Predictions, served: str) -> Iterator[str]:
    n = len(measured.truth)
    if n < _FEW:
        yield (
            f"Only {n} examples were measured: one more or less that is right moves the accuracy by "
            f"{100 / n:.0f} points. Take the intervals seriously, and give validation examples if you can."
        )
    if measured.of == "folds":
        yield "Each fold was predicted by a context without its examples, so the served context may do a little better."
        if claim.hyperparameters.method == "auto":
            yield "Steps and loss were chosen on the same folds, so it may also do a little worse."
    if served == "icl" and measured.tuned_is_worse:
        yield "The plain context is served: on the examples that were measured the tuned one did worse."


def _suspects(spec: TuningSpec, found: Found) -> Iterator[SuspectExample]:
    """Examples whose label held-out predictions contradict, the least likely first."""
    if found.held_out is None:
        return
    names, pointed = spec.label_names, list(spec.pointed())
    numbers = [number for fold in found.held_out.folds for number in fold]
    truth = torch.tensor([names.index(pointed[number][1].label) for number in numbers])
    likely, predicted = found.held_out.tuned.max(1)
    own = found.held_out.tuned.gather(1, truth[:, None]).flatten()
    for place in own.argsort(stable=True).tolist():
        if own[place] >= _DOUBT / len(names):
            return
        if predicted[place] != truth[place]:
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


def _reproducibility(base: BaseModel, claim: Claim) -> Reproducibility:
    spec = claim.spec
    decisive = spec.model_dump(mode="json", include={"examples", "training_examples", "validation_examples", "labels"})
    return Reproducibility(
        seed=claim.hyperparameters.seed,
        hyperparameters=spec.hyperparameters,
        examples_sha256=hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest(),
        template=spec.template,
        model=claim.model,
        model_revision=base.revision,
        versions={package: version(package) for package in _PACKAGES},
        device=base.device,
        dtype=str(base.model.dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
    )
