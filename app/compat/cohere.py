"""Cohere's ``POST /v1/classify`` (cohere 7.3): its request, and predictions to its response.

Pure functions. ``preset`` is accepted, changes nothing and is named in ``meta.warnings``. A field at the top of the
body that is not known is ignored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from app.compat.bodies import DoorBody
from app.contexts.plain import check_plain
from app.contract.names import ErrorCode
from app.contract.texts import MAX_INPUTS, Text
from app.contract.tuning import Example

#: Examples of each label that Cohere asks for, at least.
FEWEST_OF_A_LABEL: Final = 2
_PRESET_IGNORED: Final = "preset is ignored: presets do not exist here"


class CohereRequest(DoorBody):
    """The body of ``POST /v1/classify``: ``examples`` with a base model, or the ref of a context as ``model``."""

    model_config = ConfigDict(extra="ignore")

    inputs: Annotated[list[Text], Field(min_length=1, max_length=MAX_INPUTS)]
    examples: list[Example] | None = None
    model: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    preset: str | None = None
    truncate: Literal["NONE", "START", "END"] | None = None

    @model_validator(mode="after")
    def _enough_examples(self) -> CohereRequest:
        counts = Counter(example.label for example in self.examples or ())
        for label, count in counts.items():
            if count < FEWEST_OF_A_LABEL:
                raise PydanticCustomError(
                    ErrorCode.INVALID_REQUEST,
                    "label {label} has {count} example; at least {fewest} examples of each label are needed",
                    {"label": label, "count": count, "fewest": FEWEST_OF_A_LABEL, "param": "/examples"},
                )
        if self.examples is not None:
            check_plain(self.examples, None)
        return self


def classification(identifier: str, text: str, labels: Sequence[str], probabilities: Sequence[float]) -> dict[str, Any]:
    """One entry of ``classifications``."""
    best = max(range(len(labels)), key=probabilities.__getitem__)
    return {
        "id": identifier,
        "input": text,
        "prediction": labels[best],
        "predictions": [labels[best]],
        "confidence": probabilities[best],
        "confidences": [probabilities[best]],
        "labels": {label: {"confidence": p} for label, p in zip(labels, probabilities, strict=True)},
        "classification_type": "single-label",
    }


def response(identifier: str, classifications: Sequence[dict[str, Any]], request: CohereRequest) -> dict[str, Any]:
    """The response, with a warning for what was ignored."""
    meta: dict[str, Any] = {"api_version": {"version": "1"}}
    if request.preset is not None:
        meta["warnings"] = [_PRESET_IGNORED]
    return {"id": identifier, "classifications": list(classifications), "meta": meta}


def models(names: Iterable[str], contexts: Iterable[str]) -> dict[str, Any]:
    """The list of models, base models and contexts alike, in one answer."""
    described = [
        {"name": name, "endpoints": ["classify"], "finetuned": finetuned}
        for finetuned, some in ((False, names), (True, contexts))
        for name in some
    ]
    return {"models": described, "next_page_token": None}


def error(document: dict[str, Any]) -> dict[str, Any]:
    """The problem document ``document`` with Cohere's ``message`` beside its fields."""
    return {**document, "message": document["detail"]}
