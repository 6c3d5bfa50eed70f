"""Warnings about examples: what is allowed, but makes a worse classifier or is not what its author meant.

Pure: it sees a `TuningSpec` and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final, Literal

from app.contract.payload import Payload
from app.contract.tuning import Example, TuningSpec

#: Warn when a label has more than this many times the examples of another.
_MOST_UNEVEN: Final = 3


class ExampleWarning(Payload):
    """A warning with a stable ``code``; ``param`` is the JSON pointer to what it is about."""

    code: Literal["duplicate_examples", "one_example_label", "label_imbalance"]
    message: str
    param: str


def warnings_about(spec: TuningSpec) -> tuple[ExampleWarning, ...]:
    """What to look at again before ``spec`` is tuned."""
    counts = Counter(example.label for example in (*spec.examples, *spec.training_examples))
    per_label = {label: counts[label] for label in spec.label_names}
    return (*_duplicates(spec), *_lonely_labels(spec, per_label), *_imbalance(per_label))


def _duplicates(spec: TuningSpec) -> Iterator[ExampleWarning]:
    first: dict[Example, str] = {}
    repeats = [pointer for pointer, example in spec.pointed() if first.setdefault(example, pointer) != pointer]
    if repeats:
        message = f"examples that repeat an earlier one, this being the first: {len(repeats)}"
        yield ExampleWarning(code="duplicate_examples", message=message, param=repeats[0])


def _lonely_labels(spec: TuningSpec, per_label: Mapping[str, int]) -> Iterator[ExampleWarning]:
    only = {example.label: f"{pointer}/label" for pointer, example in reversed(list(spec.pointed()))}
    for index, (label, count) in enumerate(per_label.items()):
        if count < 2:
            message = f"the label has {'one example' if count else 'no example'}; two at least are better"
            param = only[label] if count else f"/labels/{index}"
            yield ExampleWarning(code="one_example_label", message=message, param=param)


def _imbalance(per_label: Mapping[str, int]) -> Iterator[ExampleWarning]:
    most, least = max(per_label.values()), min(per_label.values())
    if most > _MOST_UNEVEN * max(1, least):
        message = f"one label has {most} examples and another has {least}"
        yield ExampleWarning(code="label_imbalance", message=message, param="/examples")
