"""Which column holds the text, the label, the id: by name, else by what stands in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any, Final

from contextune.sources.tables import Row, Table

_TEXTS: Final = ("text", "sentence", "utterance", "input", "query", "question", "message", "content", "body", "review",
                 "description", "comment", "title", "prompt", "document", "texts", "文本", "内容")  # fmt: skip
_LABELS: Final = ("label", "labels", "category", "intent", "class", "target", "tag", "sentiment", "topic", "output",
                  "type", "y", "label_text", "标签", "类别")  # fmt: skip
_IDS: Final = ("id", "uid", "uuid", "key")
_ID_ENDING: Final = "_id"
_SAMPLE_ROWS: Final = 200


@dataclass(frozen=True)
class Columns:
    """Names of the columns; None is to guess. ``guessed`` is set once a text, or a label that is needed, was."""

    text: str | None = None
    label: str | None = None
    id: str | None = None
    guessed: bool = False


def settle(table: Table, wanted: Columns, label_needed: bool) -> tuple[Table, Columns]:
    """The columns to read, and the table with all its rows still to be read.

    Raises ``SourceError`` for a column that is not there, or that cannot be guessed.
    """
    for name in (wanted.text, wanted.label, wanted.id):
        if name is not None and name not in table.columns:
            raise table.fault(f"there is no column {name!r}; {listed(table.columns)}")
    sample = list(islice(table.rows, _SAMPLE_ROWS))
    table = replace(table, rows=chain(sample, table.rows))
    if label_needed and wanted.label is None and len(table.columns) == 1:
        raise table.fault(f"there is no label column; {listed(table.columns)}")
    label = wanted.label or _guess_label(table, sample, wanted, label_needed)
    text = wanted.text or _guess_text(table, sample, label)
    if text is None:
        raise table.fault(f"which column holds the text? {listed(table.columns)}")
    if label is None and label_needed:
        raise table.fault(f"which column holds the label? {listed(table.columns)}")
    identity = wanted.id or _guess_id([column for column in table.columns if column not in (text, label)])
    guessed = wanted.text is None or (label_needed and wanted.label is None)
    return table, Columns(text, label, identity, guessed)


def listed(columns: Sequence[str]) -> str:
    """The columns there are, in words."""
    shown = ", ".join(columns[:20]) + (", …" if len(columns) > 20 else "")
    return f"the columns are: {shown}" if columns else "there is no column at all"


def named(columns: Sequence[str], names: Sequence[str]) -> str | None:
    """The column that has the first of these names that one has."""
    by_name = {column.strip().lower(): column for column in columns}
    return next((by_name[name] for name in names if name in by_name), None)


def _guess_id(columns: Sequence[str]) -> str | None:
    """The column called as ids are, else the only one whose name ends as theirs do."""
    ending = [column for column in columns if column.strip().lower().endswith(_ID_ENDING)]
    return named(columns, _IDS) or (ending[0] if len(ending) == 1 else None)


def _guess_label(table: Table, sample: Sequence[Row], wanted: Columns, needed: bool) -> str | None:
    by_name = named([column for column in table.columns if column != wanted.text], _LABELS)
    if by_name or not needed:
        return by_name
    candidates = [column for column in table.columns if column != (wanted.text or named(table.columns, _TEXTS))]
    repeated = {column: _share_of_repeats(column, sample) for column in candidates}
    best = max(repeated, key=repeated.__getitem__, default=None)
    return best if best is not None and (repeated[best] > 0 or len(candidates) == 1) else None


def _guess_text(table: Table, sample: Sequence[Row], label: str | None) -> str | None:
    candidates = [column for column in table.columns if column != label]
    by_name = named(candidates, _TEXTS)
    if by_name:
        return by_name
    lengths = {column: sum(_letters(row.cells.get(column)) for row in sample) for column in candidates}
    best = max(lengths, key=lengths.__getitem__, default=None)
    return best if best is not None and (lengths[best] > 0 or len(candidates) == 1) else None


def _share_of_repeats(column: str, sample: Sequence[Row]) -> float:
    values = [text for row in sample if (text := _text(row.cells.get(column)))]
    return 1 - len(set(values)) / len(values) if values else 0.0


def _letters(value: Any) -> int:
    text = _text(value)
    return 0 if text.isdecimal() else len(text)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ("" if value is None else str(value))
