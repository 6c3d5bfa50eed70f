"""Warnings about examples: what is allowed, but makes a worse classifier or is not what its author meant.

Pure: it sees a `TuningSpec` and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal

from app.contract.payload import Payload
from app.contract.tuning import Example, TuningSpec

#: Warn when a label has more than this many times the examples of another.
_MOST_UNEVEN: Final = 3
#: Labels with one example or none that are warned of one by one.
_MOST_LONELY: Final = 3


class ExampleWarning(Payload):
    """A warning with a stable ``code``; ``param`` is the JSON pointer to what it is about."""

    code: Literal["duplicate_examples", "one_example_label", "similar_labels", "label_imbalance"]
    message: str
    param: str


def warnings_about(spec: TuningSpec) -> tuple[ExampleWarning, ...]:
    """What to look at again before ``spec`` is tuned."""
    counts = Counter(example.label for example in (*spec.examples, *spec.training_examples))
    per_label = {label: counts[label] for label in spec.label_names}
    first = {example.label: f"{pointer}/label" for pointer, example in reversed(list(spec.pointed()))}
    return (
        *_duplicates(spec),
        *_lonely_labels(first, per_label),
        *_similar_labels(first, per_label),
        *_imbalance(per_label),
    )


def _duplicates(spec: TuningSpec) -> Iterator[ExampleWarning]:
    first: dict[Example, str] = {}
    repeats = [pointer for pointer, example in spec.pointed() if first.setdefault(example, pointer) != pointer]
    if repeats:
        message = f"examples that repeat an earlier one, this being the first: {len(repeats)}"
        yield ExampleWarning(code="duplicate_examples", message=message, param=repeats[0])


def _lonely_labels(first: Mapping[str, str], per_label: Mapping[str, int]) -> Iterator[ExampleWarning]:
    """first: the pointer to each label at its first example."""
    lonely = [(label, index, count) for index, (label, count) in enumerate(per_label.items()) if count < 2]
    for label, index, count in lonely[:_MOST_LONELY]:
        message = f"the label has {'one example' if count else 'no example'}; two at least are better"
        param = first[label] if count else f"/labels/{index}"
        yield ExampleWarning(code="one_example_label", message=message, param=param)
    if (more := len(lonely) - _MOST_LONELY) > 0:
        message = f"more labels that have one example or none: {more}; two at least are better"
        yield ExampleWarning(code="one_example_label", message=message, param="/examples")


def _similar_labels(first: Mapping[str, str], labels: Iterable[str]) -> Iterator[ExampleWarning]:
    """Labels that people would read as one: an underscore is read as a space, and a letter's case tells little."""
    met: dict[str, str] = {}
    for index, label in enumerate(labels):
        other = met.setdefault(" ".join(label.replace("_", " ").split()).casefold(), label)
        if other != label:
            message = f"the label reads like {other!r}; if they mean the same, make them one"
            yield ExampleWarning(code="similar_labels", message=message, param=first.get(label, f"/labels/{index}"))


def _imbalance(per_label: Mapping[str, int]) -> Iterator[ExampleWarning]:
    most, least = max(per_label.values()), min(per_label.values())
    if most > _MOST_UNEVEN * max(1, least):
        message = f"one label has {most} examples and another has {least}"
        yield ExampleWarning(code="label_imbalance", message=message, param="/examples")
