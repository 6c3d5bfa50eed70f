"""Labels and what they mean, out of a file with a row for each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from contextune.models.contexts import LabelDescription
from contextune.sources.columns import listed, named
from contextune.sources.examples import kind_of, label_of
from contextune.sources.tables import Row, Table, read_table

_NAMES: Final = ("label", "name", "labels", "category", "intent", "class", "topic", "标签", "类别")
_DESCRIPTIONS: Final = ("description", "meaning", "definition", "explanation", "about", "描述", "说明")


def labels_from(path: Path, file_format: str | None = None, encoding: str | None = None) -> list[LabelDescription]:
    """Read labels, in their order, with their descriptions where there is a column of them.

    Raises ``SourceError`` that says what is wrong and where.
    """
    table = read_table(path, file_format, encoding)
    label, description = _columns(table)
    found: dict[str, LabelDescription] = {}
    for row in table.rows:
        name = label_of(table, row, label)
        if name in found:
            raise table.fault(f"the label {name!r} stands here a second time", row)
        found[name] = LabelDescription(name=name, description=_described(table, row, description))
    if not found:
        raise table.fault("there is no label")
    return list(found.values())


def _columns(table: Table) -> tuple[str, str | None]:
    label = named(table.columns, _NAMES)
    if label is None:
        raise table.fault(f"no column is called 'label' or 'name'; {listed(table.columns)}")
    others = [column for column in table.columns if column != label]
    description = named(others, _DESCRIPTIONS) or _only(others)
    if description is None and others:
        raise table.fault(f"no column is called 'description'; {listed(table.columns)}")
    return label, description


def _only(columns: Sequence[str]) -> str | None:
    return columns[0] if len(columns) == 1 else None


def _described(table: Table, row: Row, column: str | None) -> str | None:
    value = row.cells.get(column) if column else None
    if value is None or not str(value).strip():
        return None
    if not isinstance(value, str):
        raise table.fault(f"the description is not text but {kind_of(value)}", row)
    return value.strip()
