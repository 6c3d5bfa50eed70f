"""Files and tables as rows of named cells. The format of a file is that of its ending, or the one that is named."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

from contextune.errors import SourceError
from contextune.sources.reading import check_size, text_lines

Cells = Mapping[str, Any]

#: The limit of a request that creates a context; batches have their own.
MAX_FILE_BYTES: Final = 64 * 1024 * 1024
#: Characters of a cell of CSV: what the service takes of a line.
_MAX_CELL: Final = 1024 * 1024
_DELIMITERS: Final = (",", ";", "\t", "|")
_QUOTED_CELL: Final = re.compile(r'(^|[,;\t|])"[^"]*(?:""[^"]*)*"(?=[,;\t|\r\n]|$)')


@dataclass(frozen=True)
class Row:
    """Cells by the name of their column. ``where`` says which row it is: ``line 7``."""

    where: str
    cells: Cells


@dataclass(frozen=True)
class Table:
    """Rows under the names of ``columns``. ``name`` is what faults call it. Rows can be read once."""

    name: str
    columns: tuple[str, ...]
    rows: Iterator[Row]

    def fault(self, text: str, row: Row | None = None) -> SourceError:
        """A fault in this table, or in a row of it."""
        return SourceError(f"{self.name}, {row.where}: {text}" if row else f"{self.name}: {text}")


def read_table(
    path: Path, file_format: str | None = None, encoding: str | None = None, most_bytes: int = MAX_FILE_BYTES
) -> Table:
    """The rows of a file. Raises ``SourceError`` here or while they are read."""
    check_size(path, most_bytes)
    kind = (file_format or path.suffix.removeprefix(".")).lower()
    reader = _READERS.get(kind)
    if reader is None:
        shown = f"the format {kind!r}" if kind else "a file without an ending"
        raise SourceError(f"{path}: {shown} is not known; known are {', '.join(_READERS)}")
    return reader(path, encoding)


def table_from(frame: Any) -> Table | None:
    """The rows of a table of pandas or polars, neither of which is imported; None for anything else."""
    if not hasattr(frame, "columns"):
        return None
    if hasattr(frame, "iter_rows"):
        dictionaries = frame.iter_rows(named=True)
    elif hasattr(frame, "itertuples"):
        names = [str(name) for name in frame.columns]
        dictionaries = (dict(zip(names, cells, strict=True)) for cells in frame.itertuples(index=False, name=None))
    else:
        return None
    rows = (Row(f"row {number}", _without_nan(cells)) for number, cells in enumerate(dictionaries))
    return Table("the table", tuple(str(name) for name in frame.columns), rows)


def _without_nan(cells: Cells) -> Cells:
    """What is missing in a table is a number that does not equal itself."""
    return {name: None if value != value else value for name, value in cells.items()}  # noqa: PLR0124


def _read_csv(path: Path, encoding: str | None, delimiter: str | None = None) -> Table:
    csv.field_size_limit(max(_MAX_CELL, csv.field_size_limit()))  # the limit is the process's
    lines = text_lines(path, encoding)
    first = _first_row(lines)
    reader = csv.reader(chain(first, lines), delimiter=delimiter or _delimiter("".join(first)), strict=True)
    return _under_header(path, _numbered(path, reader), "line")


_SAMPLE_ROWS: Final = 200


def _first_row(lines: Iterator[str]) -> list[str]:
    """The lines of the first row: one, or as many as a cell in quotes goes over."""
    first: list[str] = []
    quotes = 0
    for line in islice(lines, _SAMPLE_ROWS):
        first.append(line)
        quotes += line.count('"')
        if quotes % 2 == 0:
            break
    return first


def _delimiter(row: str) -> str:
    """The delimiter that a row has most often outside of its cells in quotes."""
    return max(_DELIMITERS, key=_QUOTED_CELL.sub(r"\1", row).count)


def _under_header(path: Path, numbered: Iterator[tuple[int, list[Any]]], unit: str) -> Table:
    """Rows of cells as a table; its columns have numbers for names where the first row is no header."""
    first = next(numbered, None)
    if first is None:
        raise SourceError(f"{path} is empty")
    sample = list(islice(numbered, _SAMPLE_ROWS))
    if _is_a_row(first[1], sample):
        columns = tuple(f"column {index}" for index in range(1, len(first[1]) + 1))
        rows = chain([first], sample, numbered)
    else:
        columns, rows = _names(path, first[1]), chain(sample, numbered)
    return Table(str(path), columns, (_row(path, columns, f"{unit} {number}", cells) for number, cells in rows))


def _is_a_row(header: list[Any], rows: list[tuple[int, list[Any]]]) -> bool:
    """Whether the first row is no header: one of its cells stands again below it, as a label does.

    A row that is the same as the first says nothing: files that were put together repeat their header.
    """
    others = [cells for _, cells in rows if cells != header]
    return any(
        cell and any(len(cells) > index and cells[index] == cell for cells in others)
        for index, cell in enumerate(header)
    )


def _names(path: Path, header: list[Any]) -> tuple[str, ...]:
    names = tuple(str(name).strip() or f"column {index}" for index, name in enumerate(header, 1))
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise SourceError(f"{path}, line 1: two columns are called {twice!r}")
    return names


def _numbered(path: Path, reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, with the line that each begins on."""
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise SourceError(f"{path}, line {line}: {_csv_fault(error)}") from None
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield line, cells


def _csv_fault(error: csv.Error) -> str:
    said = str(error)
    if "field limit" in said:
        return f"a cell has more than {csv.field_size_limit():,} characters"
    return "a quote is never closed" if "unexpected end" in said else said


def _row(path: Path, columns: tuple[str, ...], where: str, cells: list[Any]) -> Row:
    if len(cells) > len(columns):
        text = f"{len(cells)} cells under {len(columns)} columns; put quotes around a text that holds a delimiter"
        raise SourceError(f"{path}, {where}: {text}")
    return Row(where, dict(zip(columns, cells, strict=False)))


def _read_tsv(path: Path, encoding: str | None) -> Table:
    return _read_csv(path, encoding, "\t")


def _read_jsonl(path: Path, encoding: str | None) -> Table:
    rows = _jsonl_rows(path, text_lines(path, encoding))
    return _headed(str(path), rows)


def _jsonl_rows(path: Path, lines: Iterable[str]) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _object_row(path, f"line {number}", _parsed(path, line.rstrip(), number))


def _read_json(path: Path, encoding: str | None) -> Table:
    found = _parsed(path, "".join(text_lines(path, encoding)), 1)
    rows = found.get("examples", found.get("data")) if isinstance(found, dict) else found
    if not isinstance(rows, list):
        raise SourceError(f"{path}: neither a list of objects nor an object with the list `examples`")
    return _headed(str(path), (_object_row(path, f"entry {number}", row) for number, row in enumerate(rows, 1)))


def _parsed(path: Path, text: str, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {line + error.lineno - 1}, column {error.colno}"
        raise SourceError(f"{path}, {where}: not valid JSON: {error.msg}") from None
    except RecursionError:
        raise SourceError(f"{path}, line {line}: nested too deeply") from None


def _object_row(path: Path, where: str, row: Any) -> Row:
    if not isinstance(row, dict):
        raise SourceError(f"{path}, {where}: not an object with a text and a label")
    return Row(where, row)


def _headed(name: str, rows: Iterator[Row]) -> Table:
    """A table without a header: its columns are what the first rows have."""
    sample = list(islice(rows, _SAMPLE_ROWS))
    columns = tuple(dict.fromkeys(column for row in sample for column in row.cells))
    return Table(name, columns, chain(sample, rows))


def _read_txt(path: Path, encoding: str | None) -> Table:
    """A text on each line that is not blank."""
    lines = enumerate(text_lines(path, encoding), 1)
    rows = (Row(f"line {number}", {"text": line.rstrip("\r\n")}) for number, line in lines if line.strip())
    return Table(str(path), ("text",), rows)


def _read_excel(path: Path, _encoding: str | None) -> Table:
    return _under_header(path, _filled(_sheet_cells(path)), "row")


def _filled(sheet: Iterator[tuple[Any, ...]]) -> Iterator[tuple[int, list[Any]]]:
    """Rows that are not blank, with their numbers, no wider than the first of them."""
    width: int | None = None
    for number, values in enumerate(sheet, 1):
        if any(value is not None for value in values):
            width = width or len(values)
            yield number, ["" if value is None else value for value in values[:width]]


def _sheet_cells(path: Path) -> Iterator[tuple[Any, ...]]:
    """The rows of the first sheet. The workbook is open as long as they are read."""
    try:
        import openpyxl  # noqa: PLC0415 - an extra
    except ImportError:
        raise SourceError(f"{path}: reading Excel needs one more package: pip install 'contextune[excel]'") from None
    try:
        with closing(openpyxl.load_workbook(path, read_only=True, data_only=True)) as workbook:
            yield from workbook.worksheets[0].iter_rows(values_only=True)
    except Exception as error:  # noqa: BLE001 - openpyxl raises what its parsers raise
        raise SourceError(f"{path}: not an Excel workbook (.xlsx) that can be read: {error}") from None


_READERS: Final[Mapping[str, Callable[[Path, str | None], Table]]] = {
    "csv": _read_csv,
    "tsv": _read_tsv,
    "jsonl": _read_jsonl,
    "ndjson": _read_jsonl,
    "json": _read_json,
    "xlsx": _read_excel,
    "txt": _read_txt,
}
