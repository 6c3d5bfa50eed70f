"""What a command says: data on stdout, everything else on stderr. With ``--json`` stdout has one envelope."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Final, TypeAlias

import typer
from pydantic import BaseModel
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON envelope: ok, and data or error.")]

_LONGEST_CELL: Final = 70


class Output:
    """Both streams. Texts of users are never read as markup, and cannot move the cursor of a terminal."""

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json
        self.data = _console(sys.stdout)
        self.notes = _console(sys.stderr)

    def result(self, data: Any, show: Callable[[Console], None]) -> None:
        """Print what the command came to: ``data`` in the envelope, or as ``show`` prints it for people."""
        if self.as_json:
            envelope(ok=True, data=plain(data))
        else:
            show(self.data)

    def note(self, text: str) -> None:
        """Tell something that is no result."""
        if not self.as_json:
            self.notes.print(printable(text))


def _console(stream: Any) -> Console:
    return Console(file=stream, markup=False, highlight=False, emoji=False, soft_wrap=True)


def envelope(**fields: Any) -> None:
    """Print the envelope."""
    sys.stdout.write(json.dumps(fields, ensure_ascii=False) + "\n")


def plain(data: Any) -> Any:
    """Data as JSON has it."""
    if isinstance(data, BaseModel):
        return data.model_dump(mode="json", by_alias=False)
    if isinstance(data, dict):
        return {name: plain(value) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [plain(value) for value in data]
    return data


def printable(text: str) -> str:
    """A text without characters that would move a terminal's cursor or change its colours."""
    return "".join(character if character.isprintable() or character == "\n" else "\ufffd" for character in text)


def clipped(text: str, width: int = _LONGEST_CELL) -> str:
    """A text on one line, cut off with an ellipsis."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= width else line[: width - 1] + "…"


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]], right: Sequence[int] = ()) -> Text:
    """Rows for people, as wide as they are; ``right`` are the columns to align to the right."""
    cells = [["" if cell is None else printable(str(cell)) for cell in row] for row in (headers, *rows)]
    widths = [max(cell_len(row[index]) for row in cells) for index in range(len(headers))]
    lines = ["  ".join(_padded(cell, widths[index], index in right) for index, cell in enumerate(row)) for row in cells]
    heads, *rest = (line.rstrip() for line in lines)
    return Text("\n").join([Text(heads, "bold"), *map(Text, rest)] if heads else [*map(Text, rest)])


def _padded(cell: str, width: int, right: bool) -> str:
    space = " " * (width - cell_len(cell))
    return space + cell if right else cell + space
