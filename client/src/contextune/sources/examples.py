"""Labelled examples out of whatever a caller has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from contextune.errors import SourceError
from contextune.sources.columns import Columns, settle
from contextune.sources.tables import Row, Table, read_table, table_from

MAX_EXAMPLES: Final = 10_000
MAX_TEXT_BYTES: Final = 100_000

#: A path, a table of pandas or polars, or an iterable of mappings, pairs (text, label) or `Example`.
ExampleSource: TypeAlias = "str | Path | Iterable[Any] | Any"


@dataclass(frozen=True)
class SourcedExample:
    """A labelled text and where it stood, such as ``line 7``."""

    text: str
    label: str
    where: str

    @property
    def body(self) -> dict[str, str]:
        """The example as the service takes it."""
        return {"text": self.text, "label": self.label}


def examples_from(
    source: ExampleSource,
    columns: Columns = Columns(),  # noqa: B008 - frozen
    *,
    alone: bool = True,
) -> list[SourcedExample]:
    """Read labelled examples, which need two labels if they stand ``alone``.

    Raises ``SourceError`` that says what is wrong and where.
    """
    return examples_in(as_table(source), columns, alone=alone)[0]


def examples_in(table: Table, columns: Columns, *, alone: bool = True) -> tuple[list[SourcedExample], Columns]:
    """The examples of a table, and the columns that they were found in."""
    table, settled = settle(table, columns, label_needed=True)
    examples = list(_examples(table, settled))
    if not examples:
        raise table.fault("there is no example")
    labels = {example.label for example in examples}
    if alone and len(labels) < 2:
        count = f"all {len(examples)} examples have" if len(examples) > 1 else "the only example has"
        raise table.fault(f"{count} the label {labels.pop()!r}; at least two different labels are needed")
    return examples, settled


def as_table(source: ExampleSource) -> Table:
    """A source as a table; a path is read, whatever is iterable is taken row by row."""
    if isinstance(source, (str, Path)):
        return read_table(Path(source))
    found = table_from(source)
    if found is not None:
        return found
    if isinstance(source, Mapping) or not isinstance(source, Iterable):
        raise SourceError(f"{type(source).__name__} is neither a path, a table nor an iterable of rows")
    rows = (Row(f"row {number}", _cells(row, number)) for number, row in enumerate(source))
    return Table("the rows", ("text", "label", "id"), rows)


def _cells(row: Any, number: int) -> Mapping[str, Any]:
    if isinstance(row, Mapping):
        return row
    if isinstance(row, str):
        return {"text": row}
    if hasattr(row, "text"):
        return {"text": row.text, "label": getattr(row, "label", None), "id": getattr(row, "id", None)}
    if isinstance(row, (tuple, list)) and len(row) == 2:
        return {"text": row[0], "label": row[1]}
    raise SourceError(f"the rows, row {number}: {type(row).__name__} is neither a mapping nor a pair (text, label)")


def _examples(table: Table, columns: Columns) -> Iterator[SourcedExample]:
    for count, row in enumerate(table.rows, 1):
        if count > MAX_EXAMPLES:
            raise table.fault(f"more than {MAX_EXAMPLES:,} examples; the service takes no more", row)
        yield SourcedExample(text_of(table, row, columns.text), label_of(table, row, columns.label), row.where)


def text_of(table: Table, row: Row, column: str | None) -> str:
    """The text of a row. Raises ``SourceError`` when it is empty, too long or no text."""
    text = any_text_of(table, row, column)
    if not text.strip():
        raise table.fault("the text is empty", row)
    size = len(text.encode(errors="surrogatepass"))
    if size > MAX_TEXT_BYTES:
        raise table.fault(f"the text has {size:,} bytes; at most {MAX_TEXT_BYTES:,} are allowed", row)
    return text


def any_text_of(table: Table, row: Row, column: str | None) -> str:
    """The text of a row, of any length. Raises ``SourceError`` when it is no text."""
    value = row.cells.get(column or "text")
    if value is None:
        return ""
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        raise table.fault(f"the text is not text but {kind_of(value)}", row)
    return str(value)


def kind_of(value: Any) -> str:
    """What a cell holds, in words."""
    kinds = {dict: "an object", list: "a list", tuple: "a list", bool: "true or false", int: "a number"}
    return kinds.get(type(value), type(value).__name__)


def label_of(table: Table, row: Row, column: str | None) -> str:
    """The label of a row. Raises ``SourceError`` when there is none, or more than one."""
    value = row.cells.get(column or "label")
    if isinstance(value, (list, tuple)):
        raise table.fault("the label is a list; a text has one label", row)
    if value is None or not str(value).strip():
        raise table.fault("the label is empty", row)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()
