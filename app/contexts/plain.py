"""Plain contexts of what a request brings: checked as for a tuned context, and stored nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pydantic_core import PydanticCustomError

from app.contract.names import ErrorCode
from app.contract.plain import PlainContext, PlainLabel
from app.contract.texts import LabelOrName
from app.contract.tuning import Example, Template, TuningSpec, check_labels

#: Examples of a request, at most.
MAX_PLAIN_EXAMPLES: Final = 1_000


def check_plain(examples: Sequence[Example] | None, labels: Sequence[LabelOrName] | None) -> None:
    """Check what ``plain_context`` is to be made of, as ``POST /contexts`` does. Raises PydanticCustomError."""
    if examples is None:
        check_labels(_spec((), labels).label_names, "/labels")
        return
    if len(examples) > MAX_PLAIN_EXAMPLES:
        raise PydanticCustomError(
            ErrorCode.TOO_MANY_EXAMPLES,
            "{count} examples given; at most {limit} can be classified with at once. POST /contexts takes more",
            {"count": len(examples), "limit": MAX_PLAIN_EXAMPLES, "param": "/examples"},
        )
    _spec(examples, labels).check()


def plain_context(
    examples: Sequence[Example] | None, labels: Sequence[LabelOrName] | None, template: Template | None
) -> PlainContext:
    """The plain context of checked ``examples``, or of ``labels`` alone."""
    spec = _spec(examples or (), labels)
    descriptions = spec.label_descriptions
    return PlainContext(
        examples=tuple((example.text, example.label) for example in examples or ()),
        labels=tuple(PlainLabel(name=name, description=descriptions.get(name)) for name in spec.label_names),
        template=template or Template(),
    )


def _spec(examples: Sequence[Example], labels: Sequence[LabelOrName] | None) -> TuningSpec:
    return TuningSpec.model_construct(examples=tuple(examples), labels=None if labels is None else tuple(labels))
