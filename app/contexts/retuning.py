"""Retuning: a new version made of an earlier one, with examples added and taken out.

Pure: it sees what both consist of and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError

from app.contract.names import ErrorCode
from app.contract.texts import DescribedLabel, LabelOrName
from app.contract.tuning import Example, TuningSpec
from app.errors import DomainError

_POINTER: Final = re.compile(r"/examples/(0|[1-9][0-9]*)")


def retuned(base: TuningSpec, changes: dict[str, Any], remove: Sequence[str]) -> TuningSpec:
    """The spec of ``base`` with the fields of ``changes``, those of its examples that ``remove`` points at taken out.

    The examples of ``changes`` are added behind the base's; its labels keep descriptions that it does not give anew.
    Raises `DomainError`.
    """
    kept = _without(base.examples, remove)
    examples = (*kept, *changes.get("examples", ()))
    if changes.get("labels"):
        changes = {**changes, "labels": _described(changes["labels"], base.label_descriptions)}
    fields = {name: getattr(base, name) for name in TuningSpec.model_fields}
    try:
        return TuningSpec.model_validate({**fields, **changes, "examples": examples})
    except ValidationError as error:
        raise _as_given(error, len(kept)) from None


def _without(examples: Sequence[Example], remove: Sequence[str]) -> tuple[Example, ...]:
    gone: set[int] = set()
    for number, pointer in enumerate(remove):
        match = _POINTER.fullmatch(pointer)
        if match is None or int(match[1]) >= len(examples):
            detail = f"the base context has no such example; it has /examples/0 to /examples/{len(examples) - 1}"
            raise DomainError(ErrorCode.INVALID_REQUEST, detail, f"/remove_examples/{number}")
        gone.add(int(match[1]))
    return tuple(example for index, example in enumerate(examples) if index not in gone)


def _described(labels: Sequence[LabelOrName], known: Mapping[str, str]) -> tuple[LabelOrName, ...]:
    """The labels, those without a description with the ``known`` one."""
    found = []
    for label in labels:
        one = DescribedLabel(name=label) if isinstance(label, str) else label
        found.append(DescribedLabel(name=one.name, description=one.description or known.get(one.name)))
    return tuple(found)


def _as_given(error: ValidationError, kept: int) -> DomainError:
    """The fault by its place in what was given: an example of the base has none there."""
    first = error.errors(include_input=False, include_url=False)[0]
    param = first.get("ctx", {}).get("param", "")
    parts = param.split("/")
    if len(parts) > 2 and parts[1] == "examples":
        index = int(parts[2]) - kept
        param = "/base_context" if index < 0 else "/".join(["", "examples", str(index), *parts[3:]])
    code = ErrorCode(first["type"]) if first["type"] in set(ErrorCode) else ErrorCode.INVALID_REQUEST
    return DomainError(code, f"{param}: {first['msg']}", param or None)
